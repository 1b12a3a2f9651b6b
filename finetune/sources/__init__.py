"""Where samples come from: files and stored turns are read row by row, and mapped to samples as the recipe says."""
