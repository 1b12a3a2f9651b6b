"""Tests of the room `dialogue.engine`; what all engines promise is in tests/contracts/test_engine_contract.py."""
