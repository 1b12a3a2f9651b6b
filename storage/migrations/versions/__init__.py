"""One file for each step of the schema. A step never imports `storage.models`, which moves on."""
