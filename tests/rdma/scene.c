/* SPDX-License-Identifier: Apache-2.0 */
#include "scene.h"

#include <string.h>
#include <sys/mman.h>

void scene_open(struct scene *scene, uint32_t peers)
{
    memset(scene, 0, sizeof *scene);
    scene->count = peers;
    for (uint32_t i = 0; i < peers; i++)
        hostile_start(&scene->peers[i], 1);
    scene->memory =
        mmap(NULL, SCENE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(scene->memory != MAP_FAILED);
    memset(scene->memory, SCENE_BYTE, SCENE_BYTES);
    assert_true(line_host_open(&scene->host, line_device(0)));
    scene_register(scene);
    for (uint32_t i = 0; i < peers; i++) {
        scene->windows[i] = ibv_alloc_mw(scene->host.domain, IBV_MW_TYPE_2);
        assert_non_null(scene->windows[i]);
        hostile_meet(&scene->peers[i], &scene->host);
    }
}

void scene_close(struct scene *scene)
{
    for (uint32_t i = 0; i < scene->count; i++) {
        if (scene->windows[i] != NULL)
            assert_int_equal(ibv_dealloc_mw(scene->windows[i]), 0);
        hostile_stop(&scene->peers[i]);
    }
    if (scene->region != NULL)
        assert_int_equal(ibv_dereg_mr(scene->region), 0);
    line_host_close(&scene->host);
    assert_int_equal(munmap(scene->memory, SCENE_BYTES), 0);
}

void scene_register(struct scene *scene)
{
    scene->region =
        ibv_reg_mr(scene->host.domain, scene->memory, SCENE_BYTES,
                   IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND);
    assert_non_null(scene->region);
}

void scene_renew(struct scene *scene, uint32_t peer)
{
    assert_int_equal(ibv_dealloc_mw(scene->windows[peer]), 0);
    scene->windows[peer] = ibv_alloc_mw(scene->host.domain, IBV_MW_TYPE_2);
    assert_non_null(scene->windows[peer]);
}

struct hostile_keys scene_lend(struct scene *scene, uint32_t peer)
{
    assert_int_equal(line_bind(&scene->peers[peer].line, scene->windows[peer], scene->region,
                               scene->memory, HOSTILE_BYTES),
                     IBV_WC_SUCCESS);
    return (struct hostile_keys){(uintptr_t)scene->memory, scene->windows[peer]->rkey,
                                 HOSTILE_BYTES};
}

struct hostile_keys scene_lend_region(struct scene *scene)
{
    scene->lent = ibv_reg_mr(scene->host.domain, scene->memory, HOSTILE_BYTES,
                             IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    assert_non_null(scene->lent);
    return (struct hostile_keys){(uintptr_t)scene->memory, scene->lent->rkey, HOSTILE_BYTES};
}

void scene_take_back(struct scene *scene)
{
    assert_int_equal(ibv_dereg_mr(scene->lent), 0);
    scene->lent = NULL;
}

struct hostile_keys scene_reading(const struct scene *scene)
{
    return (struct hostile_keys){(uintptr_t)scene->memory, scene->region->rkey, HOSTILE_BYTES};
}

bool scene_is(const struct scene *scene, uint64_t from, uint64_t bytes, uint8_t byte)
{
    const uint8_t *memory = scene->memory + from;

    return bytes == 0 || (memory[0] == byte && memcmp(memory, memory + 1, bytes - 1) == 0);
}
