/* Vulkan for compute, through the loader: devices, memory, pipelines, recorded runs.
 *
 * No link dependency: the loader is opened at run time. No CPython calls: Python opens this library
 * with ctypes (backends/_c_device.py). Shaders reach memory by address, so there are no
 * descriptors: what a dispatch needs stands in its push constants. Functions return 0, or -1 with
 * the reason in jv_error. A device is used by one thread at a time. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vulkan_types.h"

#define EXPORT __attribute__((visibility("default")))
#define PUSH_BYTES 128          /* what every device has */
#define STAGING_BYTES (16u << 20)
#define MAX_DEVICES 16

#define GLOBAL_FUNCTIONS(X) X(CreateInstance) X(EnumerateInstanceVersion)
#define INSTANCE_FUNCTIONS(X) X(DestroyInstance) X(EnumeratePhysicalDevices) \
    X(GetPhysicalDeviceProperties2) X(GetPhysicalDeviceFeatures2) \
    X(GetPhysicalDeviceMemoryProperties) X(GetPhysicalDeviceQueueFamilyProperties) \
    X(EnumerateDeviceExtensionProperties) X(GetPhysicalDeviceMemoryProperties2) \
    X(CreateDevice) X(GetDeviceProcAddr)
#define DEVICE_FUNCTIONS(X) X(DestroyDevice) X(GetDeviceQueue) X(CreateBuffer) X(DestroyBuffer) \
    X(GetBufferMemoryRequirements) X(AllocateMemory) X(FreeMemory) X(BindBufferMemory) \
    X(MapMemory) X(GetBufferDeviceAddress) X(CreateShaderModule) X(DestroyShaderModule) \
    X(CreatePipelineLayout) X(DestroyPipelineLayout) X(CreateComputePipelines) \
    X(DestroyPipeline) X(CreateCommandPool) X(DestroyCommandPool) X(AllocateCommandBuffers) \
    X(FreeCommandBuffers) X(BeginCommandBuffer) X(EndCommandBuffer) X(CmdBindPipeline) \
    X(CmdPushConstants) X(CmdDispatch) X(CmdPipelineBarrier) X(CmdCopyBuffer) X(CmdFillBuffer) \
    X(QueueSubmit) X(CreateFence) X(DestroyFence) X(WaitForFences) X(ResetFences)

typedef struct {
    VkBuffer buffer;
    VkDeviceMemory memory;
    uint64_t size, address;
    char *mapped;               /* NULL where the host cannot see the memory */
} jv_buffer;

typedef struct {
    char error[512], name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    int is_cpu, tells_budget;   /* VK_EXT_memory_budget */
    uint64_t max_allocation;
    void *loader;
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
#define DECLARE(name) PFN_vk##name name;
    GLOBAL_FUNCTIONS(DECLARE) INSTANCE_FUNCTIONS(DECLARE) DEVICE_FUNCTIONS(DECLARE)
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    uint32_t family;
    VkCommandPool pool;
    VkCommandBuffer transfer;
    VkPipelineLayout layout;
    VkFence fence;
    VkPhysicalDeviceMemoryProperties memories;
    jv_buffer *staging;
} jv_device;

#define FAIL(...) do { snprintf(d->error, sizeof d->error, __VA_ARGS__); return -1; } while (0)
#define CHECK(call) do { VkResult r_ = (call); if (r_ != VK_SUCCESS) \
    FAIL("%.*s: %s", (int)strcspn(#call + 3, "("), #call + 3, result_name(r_)); } while (0)

static const char *result_name(VkResult result) {
    static char number[32];
    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY: return "out of host memory";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY: return "out of device memory";
    case VK_ERROR_DEVICE_LOST: return "device lost";
    case VK_ERROR_INCOMPATIBLE_DRIVER:
        return "no Vulkan driver is installed (in software, on Debian: mesa-vulkan-drivers)";
    case VK_ERROR_INITIALIZATION_FAILED: return "initialization failed";
    default: snprintf(number, sizeof number, "VkResult %d", (int)result); return number;
    }
}

/* --- devices --- */

typedef struct {
    VkPhysicalDeviceFeatures2 core;
    VkPhysicalDevice16BitStorageFeatures half;
    VkPhysicalDevice8BitStorageFeatures byte;
    VkPhysicalDeviceBufferDeviceAddressFeatures address;
} features;

static void chain(features *f) {
    memset(f, 0, sizeof *f);
    f->core.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    f->half.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES;
    f->byte.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES;
    f->address.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_BUFFER_DEVICE_ADDRESS_FEATURES;
    f->core.pNext = &f->half;
    f->half.pNext = &f->byte;
    f->byte.pNext = &f->address;
}

/* What the device lacks, or NULL. */
static const char *lacks(jv_device *d, VkPhysicalDevice physical, uint32_t version) {
    features f;
    if (version < VK_API_VERSION_1_2) return "Vulkan 1.2";
    chain(&f);
    d->GetPhysicalDeviceFeatures2(physical, &f.core);
    if (!f.core.features.shaderInt64) return "shaderInt64";
    if (!f.half.storageBuffer16BitAccess) return "storageBuffer16BitAccess";
    if (!f.byte.storageBuffer8BitAccess) return "storageBuffer8BitAccess";
    if (!f.address.bufferDeviceAddress) return "bufferDeviceAddress";
    return NULL;
}

static int load_instance(jv_device *d) {
    d->loader = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!d->loader) d->loader = dlopen("libvulkan.1.dylib", RTLD_NOW | RTLD_LOCAL);
    if (!d->loader) FAIL("no Vulkan loader (libvulkan.so.1) on this machine");
    *(void **)&d->GetInstanceProcAddr = dlsym(d->loader, "vkGetInstanceProcAddr");
    if (!d->GetInstanceProcAddr) FAIL("the Vulkan loader has no vkGetInstanceProcAddr");
#define LOAD_GLOBAL(n) if (!(d->n = (PFN_vk##n)d->GetInstanceProcAddr(NULL, "vk" #n))) \
        FAIL("the Vulkan loader has no vk" #n);
    GLOBAL_FUNCTIONS(LOAD_GLOBAL)
    VkApplicationInfo application = {VK_STRUCTURE_TYPE_APPLICATION_INFO};
    application.apiVersion = VK_API_VERSION_1_2;
    VkInstanceCreateInfo info = {VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
    info.pApplicationInfo = &application;
    CHECK(d->CreateInstance(&info, NULL, &d->instance));
#define LOAD_INSTANCE(n) \
    if (!(d->n = (PFN_vk##n)d->GetInstanceProcAddr(d->instance, "vk" #n))) \
        FAIL("the Vulkan loader has no vk" #n);
    INSTANCE_FUNCTIONS(LOAD_INSTANCE)
    return 0;
}

static VkPhysicalDeviceProperties properties_of(jv_device *d, VkPhysicalDevice device) {
    VkPhysicalDeviceMaintenance3Properties limits = {
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES};
    VkPhysicalDeviceProperties2 p = {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, &limits};
    d->GetPhysicalDeviceProperties2(device, &p);
    d->max_allocation = limits.maxMemoryAllocationSize;
    return p.properties;
}

/* The place of the `index`th largest of the scores that are not negative, or -1. */
static int ranked(int *scores, int count, int index) {
    int best = -1;
    for (int n = 0; n <= index; n++) {
        if (best >= 0) scores[best] = -1;
        best = -1;
        for (int i = 0; i < count; i++)
            if (scores[i] >= 0 && (best < 0 || scores[i] > scores[best])) best = i;
        if (best < 0) return -1;
    }
    return best;
}

/* Choose the best device whose name contains `wanted`; "name#1" is the second best. */
static int choose(jv_device *d, const char *wanted) {
    static const int worth[] = {0, 3, 4, 2, 1}; /* other, integrated, discrete, virtual, cpu */
    VkPhysicalDevice all[MAX_DEVICES];
    uint32_t count = MAX_DEVICES;
    int scores[MAX_DEVICES];
    char reasons[400] = "", part[256];
    snprintf(part, sizeof part, "%s", wanted);
    char *number = strrchr(part, '#');
    int index = number ? atoi(number + 1) : 0;
    if (number) *number = 0;
    VkResult result = d->EnumeratePhysicalDevices(d->instance, &count, all);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE) CHECK(result);
    for (uint32_t i = 0; i < count; i++) {
        VkPhysicalDeviceProperties p = properties_of(d, all[i]);
        const char *missing = lacks(d, all[i], p.apiVersion);
        if (!strstr(p.deviceName, part)) missing = "the wanted name";
        scores[i] = missing ? -1 : p.deviceType < 5 ? worth[p.deviceType] : 0;
        if (missing) {
            size_t used = strlen(reasons);
            snprintf(reasons + used, sizeof reasons - used, "; %.80s lacks %s", p.deviceName, missing);
        }
    }
    int best = ranked(scores, (int)count, index);
    if (best < 0 && index) FAIL("no usable Vulkan device number %d among %u%s", index, count, reasons);
    if (best < 0) FAIL("no usable Vulkan device among %u%s", count, reasons);
    VkPhysicalDeviceProperties p = properties_of(d, all[best]);
    d->physical = all[best], d->is_cpu = p.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
    memcpy(d->name, p.deviceName, sizeof d->name);
    return 0;
}

static int has_extension(jv_device *d, const char *name) {
    uint32_t count = 0, found = 0;
    if (d->EnumerateDeviceExtensionProperties(d->physical, NULL, &count, NULL)) return 0;
    VkExtensionProperties *all = calloc(count + 1, sizeof *all);
    if (all && !d->EnumerateDeviceExtensionProperties(d->physical, NULL, &count, all))
        for (uint32_t i = 0; i < count; i++) found |= !strcmp(all[i].extensionName, name);
    free(all);
    return (int)found;
}

static int open_device(jv_device *d) {
    VkQueueFamilyProperties families[32];
    uint32_t count = 32;
    float priority = 1;
    d->GetPhysicalDeviceQueueFamilyProperties(d->physical, &count, families);
    for (d->family = 0; d->family < count; d->family++)
        if (families[d->family].queueFlags & VK_QUEUE_COMPUTE_BIT) break;
    if (d->family == count) FAIL("%s has no queue that computes", d->name);
    VkDeviceQueueCreateInfo queue = {VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
    queue.queueFamilyIndex = d->family, queue.queueCount = 1, queue.pQueuePriorities = &priority;
    features f;
    chain(&f);
    f.core.features.shaderInt64 = f.half.storageBuffer16BitAccess = VK_TRUE;
    f.byte.storageBuffer8BitAccess = f.address.bufferDeviceAddress = VK_TRUE;
    VkDeviceCreateInfo info = {VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, &f.core};
    info.queueCreateInfoCount = 1, info.pQueueCreateInfos = &queue;
    CHECK(d->CreateDevice(d->physical, &info, NULL, &d->device));
#define LOAD_DEVICE(n) if (!(d->n = (PFN_vk##n)d->GetDeviceProcAddr(d->device, "vk" #n))) \
        FAIL("%s has no vk" #n, d->name);
    DEVICE_FUNCTIONS(LOAD_DEVICE)
    d->GetDeviceQueue(d->device, d->family, 0, &d->queue);
    d->GetPhysicalDeviceMemoryProperties(d->physical, &d->memories);
    d->tells_budget = has_extension(d, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    VkCommandPoolCreateInfo pool = {VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
    pool.queueFamilyIndex = d->family;
    pool.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT;
    CHECK(d->CreateCommandPool(d->device, &pool, NULL, &d->pool));
    VkCommandBufferAllocateInfo allocate = {VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
    allocate.commandPool = d->pool, allocate.commandBufferCount = 1;
    CHECK(d->AllocateCommandBuffers(d->device, &allocate, &d->transfer));
    VkFenceCreateInfo fence = {VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    CHECK(d->CreateFence(d->device, &fence, NULL, &d->fence));
    VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, PUSH_BYTES};
    VkPipelineLayoutCreateInfo layout = {VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO};
    layout.pushConstantRangeCount = 1, layout.pPushConstantRanges = &range;
    CHECK(d->CreatePipelineLayout(d->device, &layout, NULL, &d->layout));
    return 0;
}

EXPORT void jv_free(jv_device *d, jv_buffer *b);

EXPORT void jv_close(jv_device *d) {
    if (!d) return;
    if (d->staging) jv_free(d, d->staging);
    if (d->layout) d->DestroyPipelineLayout(d->device, d->layout, NULL);
    if (d->fence) d->DestroyFence(d->device, d->fence, NULL);
    if (d->pool) d->DestroyCommandPool(d->device, d->pool, NULL);
    if (d->device) d->DestroyDevice(d->device, NULL);
    if (d->instance) d->DestroyInstance(d->instance, NULL);
    if (d->loader) dlclose(d->loader);
    free(d);
}

/* Open a device; NULL with the reason in `error` if there is none. */
EXPORT jv_device *jv_open(const char *wanted, char *error, size_t size) {
    jv_device *d = calloc(1, sizeof *d);
    if (!d) { snprintf(error, size, "out of memory"); return NULL; }
    if (load_instance(d) || choose(d, wanted) || open_device(d)) {
        snprintf(error, size, "%s", d->error);
        jv_close(d);
        return NULL;
    }
    return d;
}

EXPORT const char *jv_error(jv_device *d) { return d->error; }
EXPORT const char *jv_name(jv_device *d) { return d->name; }
EXPORT int jv_is_cpu(jv_device *d) { return d->is_cpu; }
EXPORT uint64_t jv_max_allocation(jv_device *d) { return d->max_allocation; }

/* --- memory --- */

/* The memory type with all of `need` and most of `like`, or -1. */
static int memory_type(jv_device *d, uint32_t allowed, uint32_t need, uint32_t like) {
    int best = -1, most = -1;
    for (uint32_t i = 0; i < d->memories.memoryTypeCount; i++) {
        uint32_t flags = d->memories.memoryTypes[i].propertyFlags;
        int liked = __builtin_popcount(flags & like);
        if ((allowed >> i & 1) && (flags & need) == need && liked > most)
            best = (int)i, most = liked;
    }
    return best;
}

/* All bytes of the heap that buffers are in, and those that are free; of a device that does not
 * tell what others use, all that there are. */
EXPORT void jv_memory(jv_device *d, uint64_t *total, uint64_t *free_bytes) {
    int type = memory_type(d, ~0u, 0, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    uint32_t heap = d->memories.memoryTypes[type].heapIndex;
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 p = {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, &budget};
    *total = *free_bytes = d->memories.memoryHeaps[heap].size;
    if (!d->tells_budget) return;
    d->GetPhysicalDeviceMemoryProperties2(d->physical, &p);
    uint64_t most = budget.heapBudget[heap], used = budget.heapUsage[heap];
    *free_bytes = most > used ? most - used : 0;
}

static int fill_buffer(jv_device *d, jv_buffer *b, int on_host) {
    const uint32_t visible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    VkBufferCreateInfo info = {VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
    info.size = b->size;
    info.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                 VK_BUFFER_USAGE_TRANSFER_DST_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT;
    CHECK(d->CreateBuffer(d->device, &info, NULL, &b->buffer));
    VkMemoryRequirements needs;
    d->GetBufferMemoryRequirements(d->device, b->buffer, &needs);
    int type = on_host ? memory_type(d, needs.memoryTypeBits, visible, VK_MEMORY_PROPERTY_HOST_CACHED_BIT)
                       : memory_type(d, needs.memoryTypeBits, 0, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    if (type < 0) FAIL("%s has no fitting memory", d->name);
    VkMemoryAllocateFlagsInfo flags = {VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO};
    flags.flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT;
    VkMemoryAllocateInfo allocate = {VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, &flags};
    allocate.allocationSize = needs.size, allocate.memoryTypeIndex = (uint32_t)type;
    CHECK(d->AllocateMemory(d->device, &allocate, NULL, &b->memory));
    CHECK(d->BindBufferMemory(d->device, b->buffer, b->memory, 0));
    if ((d->memories.memoryTypes[type].propertyFlags & visible) == visible)
        CHECK(d->MapMemory(d->device, b->memory, 0, VK_WHOLE_SIZE, 0, (void **)&b->mapped));
    VkBufferDeviceAddressInfo address = {VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO};
    address.buffer = b->buffer;
    b->address = d->GetBufferDeviceAddress(d->device, &address);
    return 0;
}

EXPORT void jv_free(jv_device *d, jv_buffer *b) {
    if (b->buffer) d->DestroyBuffer(d->device, b->buffer, NULL);
    if (b->memory) d->FreeMemory(d->device, b->memory, NULL);
    free(b);
}

/* Allocate memory, `on_host` for what the host writes or reads at every run; NULL on failure. */
EXPORT jv_buffer *jv_alloc(jv_device *d, uint64_t size, int on_host) {
    jv_buffer *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->size = size;
    if (fill_buffer(d, b, on_host)) { jv_free(d, b); return NULL; }
    return b;
}

EXPORT uint64_t jv_address(jv_buffer *b) { return b->address; }
EXPORT void *jv_mapped(jv_buffer *b) { return b->mapped; }

/* --- work --- */

static int begin(jv_device *d, VkCommandBuffer commands) {
    VkCommandBufferBeginInfo info = {VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    CHECK(d->BeginCommandBuffer(commands, &info));
    return 0;
}

/* All writes so far, whoever made them, are seen by all that follows. */
static void barrier(jv_device *d, VkCommandBuffer commands) {
    const VkPipelineStageFlags stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT |
        VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_HOST_BIT;
    const VkAccessFlags reads = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_HOST_READ_BIT;
    const VkAccessFlags writes = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT | VK_ACCESS_HOST_WRITE_BIT;
    VkMemoryBarrier memory = {VK_STRUCTURE_TYPE_MEMORY_BARRIER, NULL, writes, reads | writes};
    d->CmdPipelineBarrier(commands, stages, stages, 0, 1, &memory, 0, NULL, 0, NULL);
}

static int end(jv_device *d, VkCommandBuffer commands) {
    barrier(d, commands);
    CHECK(d->EndCommandBuffer(commands));
    return 0;
}

EXPORT int jv_run(jv_device *d, VkCommandBuffer commands) {
    VkSubmitInfo info = {VK_STRUCTURE_TYPE_SUBMIT_INFO};
    info.commandBufferCount = 1, info.pCommandBuffers = &commands;
    CHECK(d->QueueSubmit(d->queue, 1, &info, d->fence));
    CHECK(d->WaitForFences(d->device, 1, &d->fence, VK_TRUE, UINT64_MAX));
    CHECK(d->ResetFences(d->device, 1, &d->fence));
    return 0;
}

EXPORT int jv_copy(jv_device *d, jv_buffer *from, uint64_t start, jv_buffer *to, uint64_t at, uint64_t size) {
    VkBufferCopy region = {start, at, size};
    if (begin(d, d->transfer)) return -1;
    d->CmdCopyBuffer(d->transfer, from->buffer, to->buffer, 1, &region);
    return end(d, d->transfer) || jv_run(d, d->transfer) ? -1 : 0;
}

EXPORT int jv_zero(jv_device *d, jv_buffer *b) {
    if (b->mapped) { memset(b->mapped, 0, b->size); return 0; }
    if (begin(d, d->transfer)) return -1;
    d->CmdFillBuffer(d->transfer, b->buffer, 0, VK_WHOLE_SIZE, 0);
    return end(d, d->transfer) || jv_run(d, d->transfer) ? -1 : 0;
}

/* Copy between the host and memory that it may not see. */
static int transfer(jv_device *d, jv_buffer *b, uint64_t start, char *data, uint64_t size, int up) {
    if (b->mapped) {
        if (up) memcpy(b->mapped + start, data, size);
        else memcpy(data, b->mapped + start, size);
        return 0;
    }
    if (!d->staging && !(d->staging = jv_alloc(d, STAGING_BYTES, 1))) return -1;
    for (uint64_t done = 0, n; done < size; done += n) {
        n = size - done < STAGING_BYTES ? size - done : STAGING_BYTES;
        if (up) memcpy(d->staging->mapped, data + done, n);
        if (up ? jv_copy(d, d->staging, 0, b, start + done, n)
               : jv_copy(d, b, start + done, d->staging, 0, n)) return -1;
        if (!up) memcpy(data + done, d->staging->mapped, n);
    }
    return 0;
}

EXPORT int jv_upload(jv_device *d, jv_buffer *b, uint64_t start, const void *data, uint64_t size) {
    return transfer(d, b, start, (char *)data, size, 1);
}

EXPORT int jv_download(jv_device *d, jv_buffer *b, uint64_t start, void *data, uint64_t size) {
    return transfer(d, b, start, data, size, 0);
}

/* --- pipelines and recorded runs --- */

/* Make a pipeline of SPIR-V with specialization constants 0, 1, ... */
EXPORT int jv_pipeline(jv_device *d, const uint32_t *code, uint64_t bytes, const uint32_t *constants,
                       uint32_t count, VkPipeline *out) {
    VkSpecializationMapEntry entries[16];
    if (count > 16) FAIL("%u specialization constants", count);
    for (uint32_t i = 0; i < count; i++)
        entries[i] = (VkSpecializationMapEntry){i, 4 * i, 4};
    VkSpecializationInfo special = {count, entries, 4 * count, constants};
    VkShaderModuleCreateInfo shader = {VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
    shader.codeSize = bytes, shader.pCode = code;
    VkComputePipelineCreateInfo info = {VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO};
    info.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
    info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT, info.stage.pName = "main";
    info.stage.pSpecializationInfo = &special, info.layout = d->layout;
    CHECK(d->CreateShaderModule(d->device, &shader, NULL, &info.stage.module));
    VkResult result = d->CreateComputePipelines(d->device, VK_NULL_HANDLE, 1, &info, NULL, out);
    d->DestroyShaderModule(d->device, info.stage.module, NULL);
    if (result != VK_SUCCESS) FAIL("CreateComputePipelines: %s", result_name(result));
    return 0;
}

EXPORT void jv_free_pipeline(jv_device *d, VkPipeline p) { d->DestroyPipeline(d->device, p, NULL); }

EXPORT int jv_begin(jv_device *d, VkCommandBuffer *out) {
    VkCommandBufferAllocateInfo info = {VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
    info.commandPool = d->pool, info.commandBufferCount = 1;
    CHECK(d->AllocateCommandBuffers(d->device, &info, out));
    if (begin(d, *out)) return -1;
    barrier(d, *out);
    return 0;
}

EXPORT void jv_barrier(jv_device *d, VkCommandBuffer commands) { barrier(d, commands); }

EXPORT void jv_dispatch(jv_device *d, VkCommandBuffer commands, VkPipeline pipeline,
                        const void *arguments, uint32_t bytes, uint32_t x, uint32_t y, uint32_t z) {
    d->CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    d->CmdPushConstants(commands, d->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, bytes, arguments);
    d->CmdDispatch(commands, x, y, z);
}

EXPORT int jv_end(jv_device *d, VkCommandBuffer commands) { return end(d, commands); }

EXPORT void jv_free_commands(jv_device *d, VkCommandBuffer commands) {
    d->FreeCommandBuffers(d->device, d->pool, 1, &commands);
}
