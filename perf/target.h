/* SPDX-License-Identifier: MIT */
/* target: the options that every command has: which server is measured, and which core measures it. */
#pragma once

#include "address.h"

#include <argp.h>
#include <stdbool.h>
#include <sys/types.h>

struct target {
    struct address address;
    bool addressed; /* true exactly when --connect was given */
    pid_t server;   /* 0: not given */
    bool json;
};

/* Their keys begin here; a command's own stay below. */
#define TARGET_KEYS 512

/* A child parser; its input is a struct target. */
extern const struct argp target_argp;

/* The least and most that the options of all commands agree on. */
#define TARGET_CONNECTIONS_MOST 1000000
