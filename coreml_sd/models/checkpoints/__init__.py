"""Single files of weights, as people share them: which family, and the folder that one becomes."""
