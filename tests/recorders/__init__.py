"""Programs that make files of `data`: what other programs compute for the tests' models.

They run where those programs are installed, from the folder `tests`, such as
`python -m recorders.lora FOLDER OUT.npz`. Tests only read what was recorded.
"""
