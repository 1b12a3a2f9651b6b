"""Tests mirror the packages; `contracts` holds one suite per border, run over every implementation."""
