/* SPDX-License-Identifier: MIT */
/* uapi: the kernel's io_uring constants that are newer than liburing 2.3 (Debian 12). In newer headers many are enums, which no
 * #ifndef sees, hence names of our own. */
#ifndef W_UAPI_H
#define W_UAPI_H

#include <stdint.h>

#define W_UAPI_ENTER_NO_IOWAIT        (1U << 7)  /* io_uring_enter: 6.15 */
#define W_UAPI_FEAT_NO_IOWAIT         (1U << 17) /* io_uring_params.features */
#define W_UAPI_CQE_F_BUF_MORE         (1U << 4)  /* io_uring_cqe.flags: 6.12 */
#define W_UAPI_PBUF_RING_INC          2U         /* io_uring_buf_reg.flags: 6.12 */
#define W_UAPI_REGISTER_SEND_MSG_RING 31U        /* io_uring_register without a ring: 6.13 */

/* io_uring_buf_reg as it is since 6.4; liburing 2.3 calls `flags` a pad. */
struct w_uapi_buffer_ring {
    uint64_t ring_address;
    uint32_t ring_entries;
    uint16_t group;
    uint16_t flags;
    uint64_t reserved[3];
};

#endif
