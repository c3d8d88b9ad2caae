"""Core ML: .mlpackage files, palettes and chunks."""
