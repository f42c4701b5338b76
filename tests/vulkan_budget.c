/* A Vulkan loader over the system's, whose path VULKAN_LOADER is: devices have VK_EXT_memory_budget,
 * a budget of VULKAN_BUDGET bytes in every heap, and 100 MiB of them in use. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include "vulkan_types.h"

static PFN_vkGetInstanceProcAddr get_real;

static VkResult list_extensions(VkPhysicalDevice device, const char *layer, uint32_t *count,
                                VkExtensionProperties *all) {
    (void)device, (void)layer;
    if (!all) *count = 2;
    else {
        strcpy(all[0].extensionName, "VK_EXT_other");
        strcpy(all[1].extensionName, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    }
    return VK_SUCCESS;
}

static void tell_memory(VkPhysicalDevice device, VkPhysicalDeviceMemoryProperties2 *properties) {
    VkPhysicalDeviceMemoryBudgetPropertiesEXT *budget = properties->pNext;
    (void)device;
    if (properties->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2 ||
        budget->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT) abort();
    for (int i = 0; i < (int)VK_MAX_MEMORY_HEAPS; i++) {
        budget->heapBudget[i] = strtoull(getenv("VULKAN_BUDGET"), NULL, 10);
        budget->heapUsage[i] = 100u << 20;
    }
}

__attribute__((visibility("default")))
PFN_vkVoidFunction vkGetInstanceProcAddr(VkInstance instance, const char *name) {
    if (!get_real) {
        void *library = dlopen(getenv("VULKAN_LOADER"), RTLD_NOW | RTLD_LOCAL);
        if (!library) abort();
        *(void **)&get_real = dlsym(library, "vkGetInstanceProcAddr");
    }
    if (!strcmp(name, "vkEnumerateDeviceExtensionProperties"))
        return (PFN_vkVoidFunction)list_extensions;
    if (!strcmp(name, "vkGetPhysicalDeviceMemoryProperties2"))
        return (PFN_vkVoidFunction)tell_memory;
    return get_real(instance, name);
}
