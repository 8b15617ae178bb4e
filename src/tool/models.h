/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEND_TOOL_MODELS_H
#define LEND_TOOL_MODELS_H

#include <stddef.h>
#include <stdint.h>

/*
 * The KV caches of real models: what the cache of one token takes in each layer.
 *
 * A cache is a number of tensors, each a row of blocks, each of MODEL_BLOCK_TOKENS tokens of bf16
 * values. With grouped-query attention a layer has two tensors, K and V, of num_key_value_heads *
 * head_dim values a token; with multi-head latent attention it has one, of kv_lora_rank +
 * qk_rope_head_dim values.
 */

enum { MODEL_BLOCK_TOKENS = 16, MODEL_VALUE_BYTES = 2, MODEL_REGIONS_MAX = 256 };

struct model {
    const char *name;
    uint32_t layers;           /* num_hidden_layers */
    uint32_t tensors;          /* a layer: 2 for K and V apart, 1 for the latent */
    uint32_t values_per_token; /* in one of them */
    const char *source;        /* where the figures stand */
};

/* The model of that name, in any case; NULL: there is none. */
const struct model *model_find(const char *name);

/* One after the other, from 0; NULL at the end. */
const struct model *model_at(size_t index);

uint32_t model_region_count(const struct model *model);
uint32_t model_block_bytes(const struct model *model);

/* The name of a region, such as "layers.0.k". */
void model_region_name(const struct model *model, uint32_t region, char *text, size_t capacity);

#endif
