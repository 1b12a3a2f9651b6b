"""The commands of `kefu finetune`, one file for each: they read options, call the room that does the work, and show what came out."""
