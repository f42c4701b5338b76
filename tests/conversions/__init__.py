"""Tiny Hugging Face folders, and what llama.cpp's converter and transformers make of them."""
