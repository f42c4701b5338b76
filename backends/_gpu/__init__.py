"""What the GPU backends share: lowering, programs, memory and the device they stand on."""
