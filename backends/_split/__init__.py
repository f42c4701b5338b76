"""Models on several devices: the cut graph, its programs and their memory."""
