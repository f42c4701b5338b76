"""Operations of the Vulkan backend, one file each, found by name; see `_vulkan_lower.operation`."""
