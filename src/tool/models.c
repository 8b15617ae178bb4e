/* SPDX-License-Identifier: Apache-2.0 */
#include "tool/models.h"

#include <stdio.h>
#include <strings.h>

/*
 * The figures are those of each model's config.json on huggingface.co. head_dim is hidden_size /
 * num_attention_heads where the file does not give it.
 */
static const struct model models[] = {
    {"Llama-3.1-8B", 32, 2, 8 * 128,
     "meta-llama/Llama-3.1-8B config.json: num_hidden_layers 32, num_key_value_heads 8, "
     "hidden_size 4096 / num_attention_heads 32"},
    {"Llama-3.1-70B", 80, 2, 8 * 128,
     "meta-llama/Llama-3.1-70B config.json: num_hidden_layers 80, num_key_value_heads 8, "
     "hidden_size 8192 / num_attention_heads 64"},
    {"Qwen2.5-32B", 64, 2, 8 * 128,
     "Qwen/Qwen2.5-32B config.json: num_hidden_layers 64, num_key_value_heads 8, "
     "hidden_size 5120 / num_attention_heads 40"},
    {"DeepSeek-R1-Distill-Qwen-32B", 64, 2, 8 * 128,
     "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B config.json: num_hidden_layers 64, "
     "num_key_value_heads 8, hidden_size 5120 / num_attention_heads 40"},
    {"Mistral-7B-v0.3", 32, 2, 8 * 128,
     "mistralai/Mistral-7B-v0.3 config.json: num_hidden_layers 32, num_key_value_heads 8, "
     "hidden_size 4096 / num_attention_heads 32"},
    {"DeepSeek-R1", 61, 1, 512 + 64,
     "deepseek-ai/DeepSeek-R1 config.json: num_hidden_layers 61, kv_lora_rank 512, "
     "qk_rope_head_dim 64"},
};

enum { MODEL_COUNT = sizeof models / sizeof models[0] };

const struct model *model_at(size_t index)
{
    return index < MODEL_COUNT ? &models[index] : NULL;
}

const struct model *model_find(const char *name)
{
    for (size_t i = 0; i < MODEL_COUNT; i++) {
        if (strcasecmp(models[i].name, name) == 0)
            return &models[i];
    }
    return NULL;
}

uint32_t model_region_count(const struct model *model)
{
    return model->layers * model->tensors;
}

uint32_t model_block_bytes(const struct model *model)
{
    return MODEL_BLOCK_TOKENS * model->values_per_token * MODEL_VALUE_BYTES;
}

void model_region_name(const struct model *model, uint32_t region, char *text, size_t capacity)
{
    static const char *const halves[] = {"k", "v"};
    const char *part = model->tensors == 1 ? "latent" : halves[region % 2];

    (void)snprintf(text, capacity, "layers.%u.%s", region / model->tensors, part);
}
