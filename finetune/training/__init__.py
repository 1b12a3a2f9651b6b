"""From rows of token ids to an adapter folder. The only part that trains; torch, transformers and peft live here."""
