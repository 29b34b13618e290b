/* SPDX-License-Identifier: MIT */
/* limits: a protocol's limits with their defaults filled in. Looked up where they are needed, so a connection keeps no copy. */
#ifndef W_LIMITS_H
#define W_LIMITS_H

#include <weir/protocol.h>

#include "runtime/base.h"

#define W_LIMITS_HIGH_WATER_BYTES (UINT32_C(256) * 1024)
/* What one send on a stream without boundaries may bring: the largest receive buffer, so that any piece can be forwarded. */
#define W_LIMITS_STREAM_PIECE_BYTES (UINT32_C(1) << 20)
#define W_LIMITS_MESSAGE_NS         (30 * WEIR_SECOND)
#define W_LIMITS_HANDSHAKE_NS       (10 * WEIR_SECOND)
#define W_LIMITS_DRAIN_NS           (5 * WEIR_SECOND)

static inline uint32_t w_limits_high_water(const weir_protocol *protocol)
{
    return protocol->limits.high_water_bytes != 0 ? protocol->limits.high_water_bytes : W_LIMITS_HIGH_WATER_BYTES;
}

static inline uint32_t w_limits_low_water(const weir_protocol *protocol)
{
    return protocol->limits.low_water_bytes != 0 ? protocol->limits.low_water_bytes : w_limits_high_water(protocol) / 2;
}

static inline uint32_t w_limits_hard(const weir_protocol *protocol)
{
    if (protocol->limits.hard_limit_bytes != 0)
        return protocol->limits.hard_limit_bytes;
    if (!protocol->codec.boundaries)
        return w_limits_high_water(protocol) + W_LIMITS_STREAM_PIECE_BYTES;
    return w_limits_high_water(protocol) + protocol->codec.message_max_bytes + protocol->codec.head_max_bytes +
           protocol->codec.trailer_max_bytes;
}

/* Durations: UINT64_MAX is no limit. */
static inline uint64_t w_limits_first_ns(const weir_protocol *protocol)
{
    return protocol->limits.first_ns != 0 ? protocol->limits.first_ns : WEIR_FOREVER;
}

static inline uint64_t w_limits_handshake_ns(const weir_protocol *protocol)
{
    return protocol->limits.handshake_ns != 0 ? protocol->limits.handshake_ns : W_LIMITS_HANDSHAKE_NS;
}

static inline uint64_t w_limits_message_ns(const weir_protocol *protocol)
{
    return protocol->limits.message_ns != 0 ? protocol->limits.message_ns : W_LIMITS_MESSAGE_NS;
}

static inline uint64_t w_limits_idle_ns(const weir_protocol *protocol)
{
    return protocol->limits.idle_ns != 0 ? protocol->limits.idle_ns : WEIR_FOREVER;
}

static inline uint64_t w_limits_drain_ns(const weir_protocol *protocol)
{
    return protocol->limits.drain_ns != 0 ? protocol->limits.drain_ns : W_LIMITS_DRAIN_NS;
}

/* 0, or -EINVAL with a sentence: is this a protocol that can run? */
int w_limits_check(const weir_protocol *protocol, weir_error *error);

#endif
