/* SPDX-License-Identifier: Apache-2.0 */
#include "fake/cuda.h"
#include "fake/cuda_inside.h"
#include "memory/cuda.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    ALLOCATIONS_MAX = FAKE_CUDA_ALLOCATIONS_MAX,
    FUNCTIONS_MAX = 96,
    DEVICE_COUNT = 2,
    STACK_MAX = 16,
    ILLEGAL_ADDRESS = 700,
    WORK_MAX = 16384,
    NOT_INITIALIZED = 3,
    INVALID_HANDLE = 400,
};

struct function {
    const char *name;
    int calls;
    int result; /* what it fails with; 0: it does not */
    int nth;    /* calls until it fails once with nth_result; < 0: never */
    int nth_result;
};

/* A copy, or a fill, that was put into a stream. */
struct work {
    void *stream;
    uint8_t *to;
    const uint8_t *from; /* NULL: value */
    uint64_t source;     /* the address of that, if it is device memory's */
    size_t bytes;
    unsigned char value;
    struct fake_cuda_launch launch; /* of which count is not 0: that, and no copy */
};

struct event {
    void *stream;
    uint64_t after; /* it is over when so many pieces of work are */
    int asked;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all that follows */
static struct fake_cuda_allocation allocations[ALLOCATIONS_MAX];
static size_t allocation_count;
static struct function functions[FUNCTIONS_MAX];
static uint64_t lie_base, lie_bytes;
static int retained, kept;
static const volatile uint32_t *gate; /* nothing is over before that is at least */
static uint32_t gate_value;
static void *recorded;                          /* the stream of the last event */
static bool is_initialized, is_held, is_broken; /* by a kernel that went astray */
static pid_t opener;                            /* the process that called cuInit() */
static struct work works[WORK_MAX];             /* a ring, in the order in which it was put in */
static uint64_t work_put, work_done;
static char contexts[DEVICE_COUNT]; /* whose addresses stand for contexts */

static _Thread_local void *stack[STACK_MAX]; /* contexts of this thread, the last is current */
static _Thread_local int pushed;

static struct function *find_function(const char *name)
{
    struct function *function = functions;

    while (function->name != NULL && strcmp(function->name, name) != 0)
        function++;
    if (function->name == NULL)
        function->nth = -1;
    function->name = name;
    return function;
}

void fake_cuda_begin(void) __attribute__((weak)); /* of the library of its own alone */

/* No driver survives a fork. The fake does where it is linked to a test, whose processes meet in
 * it; and not as a library, which is there for programs that a driver shall be right for. */
static bool is_forked(void)
{
    return fake_cuda_begin != NULL && opener != 0 && opener != getpid();
}

/* Count a call, and say how it fails, if it does. */
static int enter(const char *name)
{
    (void)pthread_mutex_lock(&lock);
    struct function *function = find_function(name);
    bool is_ready = is_initialized || strcmp(name, "cuInit") == 0;
    int result = is_ready && !is_forked() ? 0 : NOT_INITIALIZED;

    function->calls++;
    if (function->nth >= 0 && function->nth-- == 0)
        result = function->nth_result;
    if (function->result != 0)
        result = function->result;
    (void)pthread_mutex_unlock(&lock);
    return result;
}

/* The same for one that needs a context. */
static int enter_context(const char *name)
{
    int result = enter(name);

    return result == 0 && pushed == 0 ? LEND_CUDA_ERROR_INVALID_CONTEXT : result;
}

int fake_cuda_enter(const char *name)
{
    return enter_context(name);
}

int fake_cuda_enter_anywhere(const char *name)
{
    return enter(name);
}

int fake_cuda_ordinal(void)
{
    return pushed > 0 && stack[pushed - 1] == &contexts[1];
}

void fake_cuda_lock(void)
{
    (void)pthread_mutex_lock(&lock);
}

void fake_cuda_unlock(void)
{
    (void)pthread_mutex_unlock(&lock);
}

static struct fake_cuda_allocation *find_allocation(uint64_t pointer)
{
    for (size_t i = 0; i < allocation_count; i++) {
        if (pointer >= allocations[i].base &&
            pointer - allocations[i].base < allocations[i].length_bytes)
            return &allocations[i];
    }
    return NULL;
}

struct fake_cuda_allocation *fake_cuda_find_locked(uint64_t pointer)
{
    return find_allocation(pointer);
}

bool fake_cuda_add_locked(const struct fake_cuda_allocation *allocation)
{
    if (allocation_count == ALLOCATIONS_MAX)
        return false;
    allocations[allocation_count++] = *allocation;
    return true;
}

void fake_cuda_remove_locked(struct fake_cuda_allocation *allocation)
{
    *allocation = allocations[--allocation_count];
}

int fake_cuda_count_reading_locked(const struct fake_cuda_allocation *allocation)
{
    int reading = 0;

    for (uint64_t i = work_done; i < work_put; i++) {
        const struct work *work = &works[i % WORK_MAX];

        if (work->launch.count > 0)
            reading += fake_cuda_count_rows_locked(&work->launch, allocation->base,
                                                   allocation->length_bytes);
        else
            reading += work->source >= allocation->base &&
                       work->source - allocation->base < allocation->length_bytes;
    }
    return reading;
}

void fake_cuda_reset(void)
{
    memset(functions, 0, sizeof functions);
    allocation_count = 0;
    lie_base = lie_bytes = 0;
    retained = kept = pushed = 0;
    is_initialized = is_held = is_broken = false;
    fake_cuda_reset_pinned();
    gate = NULL;
    fake_cuda_reset_openings();
    fake_cuda_reset_remote();
    fake_cuda_reset_chunks();
    work_put = work_done = 0;
}

void fake_cuda_add(const struct fake_cuda_allocation *allocation)
{
    (void)pthread_mutex_lock(&lock);
    if (allocation_count < ALLOCATIONS_MAX)
        allocations[allocation_count++] = *allocation;
    (void)pthread_mutex_unlock(&lock);
}

uint8_t *fake_cuda_bytes(uint64_t pointer)
{
    (void)pthread_mutex_lock(&lock);
    const struct fake_cuda_allocation *allocation = find_allocation(pointer);
    uint8_t *bytes = allocation != NULL && allocation->bytes != NULL
                         ? allocation->bytes + (pointer - allocation->base)
                         : NULL;
    (void)pthread_mutex_unlock(&lock);
    return bytes;
}

void fake_cuda_renew(uint64_t pointer)
{
    (void)pthread_mutex_lock(&lock);
    find_allocation(pointer)->buffer_id += 1000000;
    (void)pthread_mutex_unlock(&lock);
}

void fake_cuda_fail(const char *function, int result)
{
    (void)pthread_mutex_lock(&lock);
    find_function(function)->result = result;
    (void)pthread_mutex_unlock(&lock);
}

void fake_cuda_fail_nth(const char *function, int nth, int result)
{
    (void)pthread_mutex_lock(&lock);
    find_function(function)->nth = nth;
    find_function(function)->nth_result = result;
    (void)pthread_mutex_unlock(&lock);
}

void fake_cuda_lie(uint64_t base, uint64_t length_bytes)
{
    lie_base = base;
    lie_bytes = length_bytes;
}

void fake_cuda_hold(int held)
{
    (void)pthread_mutex_lock(&lock);
    is_held = held != 0;
    (void)pthread_mutex_unlock(&lock);
}

void fake_cuda_drop(void)
{
    (void)pthread_mutex_lock(&lock);
    work_done = work_put;
    (void)pthread_mutex_unlock(&lock);
}

int fake_cuda_under_way(void)
{
    (void)pthread_mutex_lock(&lock);
    int count = (int)(work_put - work_done);
    (void)pthread_mutex_unlock(&lock);
    return count;
}

int fake_cuda_calls(const char *function)
{
    (void)pthread_mutex_lock(&lock);
    int calls = find_function(function)->calls;
    (void)pthread_mutex_unlock(&lock);
    return calls;
}

void *fake_cuda_recorded(void)
{
    return recorded;
}

int fake_cuda_held(void)
{
    return pushed + retained;
}

int fake_cuda_kept(void)
{
    return kept;
}

static void count(int *counter, int more)
{
    (void)pthread_mutex_lock(&lock);
    *counter += more;
    (void)pthread_mutex_unlock(&lock);
}

void fake_cuda_keep(int more)
{
    count(&kept, more);
}

int cuInit(unsigned flags)
{
    if (fake_cuda_begin != NULL)
        fake_cuda_begin();
    int result = enter("cuInit");

    if (result == 0 && flags != 0)
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    (void)pthread_mutex_lock(&lock);
    is_initialized |= result == 0;
    if (result == 0)
        opener = getpid();
    (void)pthread_mutex_unlock(&lock);
    return result;
}

int cuGetErrorName(int result, const char **out)
{
    static const struct {
        int result;
        const char *name;
    } names[] = {
        {LEND_CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
        {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
        {LEND_CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
        {LEND_CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
        {LEND_CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
        {LEND_CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].result == result) {
            *out = names[i].name;
            return LEND_CUDA_SUCCESS;
        }
    }
    *out = NULL;
    return LEND_CUDA_ERROR_INVALID_VALUE;
}

int cuDeviceGet(int *out_device, int ordinal)
{
    int result = enter("cuDeviceGet");

    if (result != 0)
        return result;
    if (ordinal < 0 || ordinal >= DEVICE_COUNT)
        return LEND_CUDA_ERROR_INVALID_DEVICE;
    *out_device = ordinal;
    return LEND_CUDA_SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **out_context, int device)
{
    int result = enter("cuDevicePrimaryCtxRetain");

    if (result != 0)
        return result;
    if (device < 0 || device >= DEVICE_COUNT)
        return LEND_CUDA_ERROR_INVALID_DEVICE;
    count(&retained, 1);
    *out_context = &contexts[device];
    return LEND_CUDA_SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    int result = enter("cuDevicePrimaryCtxRelease");

    (void)device;
    count(&retained, -1);
    return result;
}

int cuCtxPushCurrent_v2(void *context)
{
    int result = enter("cuCtxPushCurrent");

    if (result != 0)
        return result;
    if (context != &contexts[0] && context != &contexts[1])
        return LEND_CUDA_ERROR_INVALID_CONTEXT;
    if (pushed == STACK_MAX)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    stack[pushed++] = context;
    return LEND_CUDA_SUCCESS;
}

int cuCtxPopCurrent_v2(void **out_context)
{
    int result = enter("cuCtxPopCurrent");

    if (pushed == 0)
        return LEND_CUDA_ERROR_INVALID_CONTEXT;
    *out_context = stack[--pushed];
    return result;
}

int cuCtxGetCurrent(void **out_context)
{
    int result = enter("cuCtxGetCurrent");

    *out_context = pushed > 0 ? stack[pushed - 1] : NULL;
    return result;
}

int cuCtxSetCurrent(void *context)
{
    int result = enter("cuCtxSetCurrent");

    if (result != 0)
        return result;
    if (context == NULL) {
        pushed -= pushed > 0;
        return LEND_CUDA_SUCCESS;
    }
    if (context != &contexts[0] && context != &contexts[1])
        return LEND_CUDA_ERROR_INVALID_CONTEXT;
    pushed += pushed == 0;
    stack[pushed - 1] = context;
    return LEND_CUDA_SUCCESS;
}

/* The driver's defaults are zeros, and -2 for the ordinal, where it does not know the address. */
static bool answer(const struct fake_cuda_allocation *allocation, int attribute, void *value)
{
    const struct fake_cuda_allocation unknown = {.ordinal = -2, .is_reserved = 1};
    const struct fake_cuda_allocation *known = allocation != NULL ? allocation : &unknown;

    switch (attribute) {
    case LEND_CUDA_POINTER_CONTEXT:
        *(void **)value = allocation == NULL || known->is_contextless || known->ordinal < 0
                              ? NULL
                              : &contexts[known->ordinal % DEVICE_COUNT];
        return true;
    case LEND_CUDA_POINTER_MEMORY_TYPE: *(unsigned *)value = known->type; return true;
    case LEND_CUDA_POINTER_BUFFER_ID: *(unsigned long long *)value = known->buffer_id; return true;
    case LEND_CUDA_POINTER_IS_MANAGED: *(bool *)value = known->is_managed != 0; return true;
    case LEND_CUDA_POINTER_DEVICE_ORDINAL: *(int *)value = known->ordinal; return true;
    case LEND_CUDA_POINTER_IS_IPC_CAPABLE:
        *(bool *)value =
            known->type == LEND_CUDA_MEMORY_DEVICE && !known->is_contextless && known->pool == NULL;
        return true;
    case LEND_CUDA_POINTER_HANDLE_TYPES: *(uint64_t *)value = known->handle_types; return true;
    case LEND_CUDA_POINTER_POOL: *(void **)value = known->pool; return true;
    case LEND_CUDA_POINTER_MAPPED: *(bool *)value = known->is_reserved == 0; return true;
    default: return false;
    }
}

int cuPointerGetAttributes(unsigned count, int *attributes, void **values, uint64_t pointer)
{
    int result = enter("cuPointerGetAttributes");

    if (result != 0)
        return result;
    (void)pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < count && result == 0; i++) {
        if (!answer(find_allocation(pointer), attributes[i], values[i]))
            result = LEND_CUDA_ERROR_INVALID_VALUE;
    }
    (void)pthread_mutex_unlock(&lock);
    return result;
}

int cuPointerSetAttribute(const void *value, int attribute, uint64_t pointer)
{
    int result = enter("cuPointerSetAttribute");

    (void)pointer;
    if (result != 0)
        return result;
    return attribute == LEND_CUDA_POINTER_SYNC_MEMOPS && *(const unsigned *)value == 1
               ? LEND_CUDA_SUCCESS
               : LEND_CUDA_ERROR_INVALID_VALUE;
}

int cuMemGetAddressRange_v2(uint64_t *out_base, size_t *out_bytes, uint64_t pointer)
{
    int result = enter_context("cuMemGetAddressRange");

    if (result != 0)
        return result;
    (void)pthread_mutex_lock(&lock);
    const struct fake_cuda_allocation *allocation = find_allocation(pointer);
    if (allocation == NULL) {
        result = LEND_CUDA_ERROR_NOT_FOUND;
    } else {
        *out_base = lie_bytes > 0 ? lie_base : allocation->base;
        *out_bytes = lie_bytes > 0 ? lie_bytes : allocation->length_bytes;
    }
    (void)pthread_mutex_unlock(&lock);
    return result;
}

/* --- streams --- */

int cuStreamCreate(void **out_stream, unsigned flags)
{
    int result = enter_context("cuStreamCreate");

    if (result != 0)
        return result;
    if (flags != LEND_CUDA_STREAM_NON_BLOCKING)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    *out_stream = malloc(1);
    count(&kept, 1);
    return LEND_CUDA_SUCCESS;
}

int cuStreamDestroy_v2(void *stream)
{
    int result = enter_context("cuStreamDestroy");

    if (result != 0)
        return result;
    free(stream);
    count(&kept, -1);
    return LEND_CUDA_SUCCESS;
}

int cuEventCreate(void **out_event, unsigned flags)
{
    int result = enter_context("cuEventCreate");

    if (result != 0)
        return result;
    if (flags != LEND_CUDA_EVENT_DISABLE_TIMING)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    *out_event = calloc(1, sizeof(struct event));
    count(&kept, 1);
    return LEND_CUDA_SUCCESS;
}

int cuEventDestroy_v2(void *event)
{
    int result = enter("cuEventDestroy");

    if (result != 0)
        return result;
    free(event);
    count(&kept, -1);
    return LEND_CUDA_SUCCESS;
}

int cuEventRecord(void *event, void *stream)
{
    int result = enter_context("cuEventRecord");
    struct event *it = event;

    if (result != 0)
        return result;
    (void)pthread_mutex_lock(&lock);
    *it = (struct event){.stream = stream, .after = work_put};
    recorded = stream;
    (void)pthread_mutex_unlock(&lock);
    return LEND_CUDA_SUCCESS;
}

/* All streams wait, and for one word at a time. */
int cuStreamWaitValue32_v2(void *stream, uint64_t address, uint32_t value, unsigned flags)
{
    int result = enter_context("cuStreamWaitValue32");

    if (result != 0 || stream == NULL || flags != 0 || !fake_cuda_is_pinned_locked(address, 4))
        return result != 0 ? result : LEND_CUDA_ERROR_INVALID_VALUE;
    (void)pthread_mutex_lock(&lock);
    gate = (const volatile uint32_t *)(uintptr_t)address;
    gate_value = value;
    (void)pthread_mutex_unlock(&lock);
    return LEND_CUDA_SUCCESS;
}

static void do_work_locked(uint64_t until)
{
    if (work_done < until)
        fake_cuda_arrive_locked(-1);
    for (; work_done < until; work_done++) {
        const struct work *work = &works[work_done % WORK_MAX];

        if (work->launch.count > 0)
            is_broken |= !fake_cuda_run_locked(&work->launch);
        else if (work->from != NULL)
            memcpy(work->to, work->from, work->bytes);
        else
            memset(work->to, work->value, work->bytes);
    }
}

void fake_cuda_finish(void)
{
    (void)pthread_mutex_lock(&lock);
    do_work_locked(work_put);
    (void)pthread_mutex_unlock(&lock);
}

int cuEventQuery(void *event)
{
    int result = enter("cuEventQuery");
    struct event *it = event;

    if (result != 0)
        return result;
    (void)pthread_mutex_lock(&lock);
    if (gate != NULL && __atomic_load_n(gate, __ATOMIC_ACQUIRE) >= gate_value)
        gate = NULL;
    if (is_held || gate != NULL || (it->asked++ == 0 && work_done < it->after))
        result = LEND_CUDA_ERROR_NOT_READY;
    else
        do_work_locked(it->after);
    if (is_broken)
        result = ILLEGAL_ADDRESS;
    (void)pthread_mutex_unlock(&lock);
    return result;
}

/* Is all of it memory of a GPU that has bytes, of one allocation or of chunks that touch? */
uint8_t *fake_cuda_reach_locked(uint64_t pointer, size_t bytes)
{
    const struct fake_cuda_allocation *allocation = find_allocation(pointer);

    if (allocation == NULL || allocation->bytes == NULL || allocation->is_closed ||
        allocation->type != LEND_CUDA_MEMORY_DEVICE ||
        bytes > allocation->length_bytes - (pointer - allocation->base))
        return NULL;
    return allocation->bytes + (pointer - allocation->base);
}

int fake_cuda_put_launch(const struct fake_cuda_launch *launch, void *stream)
{
    int result = LEND_CUDA_ERROR_INVALID_VALUE;

    (void)pthread_mutex_lock(&lock);
    if (launch->count > 0 && work_put - work_done < WORK_MAX) {
        works[work_put++ % WORK_MAX] = (struct work){.stream = stream, .launch = *launch};
        result = LEND_CUDA_SUCCESS;
    }
    (void)pthread_mutex_unlock(&lock);
    return result;
}

static int put(uint64_t device, const struct work *wanted, bool is_to_device)
{
    struct work work = *wanted;
    int result = LEND_CUDA_SUCCESS;

    (void)pthread_mutex_lock(&lock);
    uint8_t *bytes = fake_cuda_reach_locked(device, work.bytes);
    if (bytes != NULL && is_to_device && find_allocation(device)->is_read_only)
        bytes = NULL;
    if (is_to_device)
        work.to = bytes;
    else
        work.from = bytes;
    if (bytes == NULL || work_put - work_done == WORK_MAX)
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    else
        works[work_put++ % WORK_MAX] = work;
    (void)pthread_mutex_unlock(&lock);
    return result;
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream)
{
    const struct work work = {.stream = stream, .to = to, .bytes = bytes};
    int result = enter_context("cuMemcpyDtoHAsync");

    return result != 0 ? result : put(from, &work, false);
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream)
{
    const struct work work = {.stream = stream, .from = from, .bytes = bytes};
    int result = enter_context("cuMemcpyHtoDAsync");

    return result != 0 ? result : put(to, &work, true);
}

int fake_cuda_put_one(uint64_t to, uint64_t from, size_t bytes, void *stream)
{
    struct work work = {.stream = stream, .bytes = bytes, .source = from};

    (void)pthread_mutex_lock(&lock);
    bool is_from_device = find_allocation(from) != NULL, is_to_device = find_allocation(to) != NULL;
    work.from =
        is_from_device ? fake_cuda_reach_locked(from, bytes) : (const uint8_t *)(uintptr_t)from;
    (void)pthread_mutex_unlock(&lock);
    if (work.from == NULL)
        return LEND_CUDA_ERROR_INVALID_VALUE;
    if (is_to_device)
        return put(to, &work, true);
    work.to = (uint8_t *)(uintptr_t)to;
    return put(from, &work, false);
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream)
{
    int result = enter_context("cuMemcpyDtoDAsync");

    if (result == 0 && (fake_cuda_bytes(to) == NULL || fake_cuda_bytes(from) == NULL))
        result = LEND_CUDA_ERROR_INVALID_VALUE;
    return result != 0 ? result : fake_cuda_put(to, from, bytes, stream);
}

int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *stream)
{
    const struct work work = {.stream = stream, .value = value, .bytes = bytes};
    int result = enter_context("cuMemsetD8Async");

    return result != 0 ? result : put(to, &work, true);
}
