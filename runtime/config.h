/* SPDX-License-Identifier: MIT */
/* config: what the embedder asked for, checked, with every zero replaced by its default. */
#ifndef W_CONFIG_H
#define W_CONFIG_H

#include <weir/runtime.h>

#include "runtime/base.h"

#define W_CONFIG_SHARDS_MAX 1024u

/* Fills `complete` from `given` (NULL: all defaults). 0, or -EINVAL with a sentence that names the value. disable is not copied. */
int w_config_complete(const weir_config *given, weir_config *complete, weir_error *error);

#endif
