/*
 * What DPDK offers only as inline functions, macros or bit fields, as plain functions and constants that
 * bindgen can read. Nothing here decides anything: each function is one call, named shim_ and then as in DPDK.
 */
#ifndef DPDK_SYS_SHIM_H
#define DPDK_SYS_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_version.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_lcore.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_memzone.h>
#include <rte_mempool.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_ether.h>
#include <rte_ethdev.h>
#include <rte_eth_ring.h>
#include <rte_hash.h>
#include <rte_ip.h>

/*
 * Where the fields of struct rte_mbuf lie. Later releases regroup the structure into other anonymous members, so
 * the paths that bindgen would generate differ from release to release while these do not.
 */
static const size_t SHIM_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr);
static const size_t SHIM_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off);
static const size_t SHIM_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt);
static const size_t SHIM_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs);
static const size_t SHIM_MBUF_PORT = offsetof(struct rte_mbuf, port);
static const size_t SHIM_MBUF_POOL = offsetof(struct rte_mbuf, pool);
static const size_t SHIM_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags);
static const size_t SHIM_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload);
static const size_t SHIM_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len);
static const size_t SHIM_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len);
static const size_t SHIM_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len);

static const uint64_t SHIM_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t SHIM_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t SHIM_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t SHIM_RX_IP_CKSUM_NONE = RTE_MBUF_F_RX_IP_CKSUM_NONE;
static const uint64_t SHIM_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t SHIM_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t SHIM_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t SHIM_RX_L4_CKSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;
static const uint64_t SHIM_RX_LRO = RTE_MBUF_F_RX_LRO;
static const uint64_t SHIM_TSO_SEGSZ_OFFSET = RTE_MBUF_TSO_SEGSZ_OFS;
static const uint64_t SHIM_TSO_SEGSZ_BITS = RTE_MBUF_TSO_SEGSZ_BITS;

static const uint64_t SHIM_RX_OFFLOAD_CHECKSUM = RTE_ETH_RX_OFFLOAD_CHECKSUM;
static const uint64_t SHIM_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t SHIM_RSS_ONE_SIDED = RTE_ETH_RSS_L3_SRC_ONLY | RTE_ETH_RSS_L3_DST_ONLY;
static const uint32_t SHIM_DEV_INTR_LSC = RTE_ETH_DEV_INTR_LSC;
static const int SHIM_SOCKET_ID_ANY = SOCKET_ID_ANY;

/* rte_eal, rte_lcore, rte_log */

int shim_errno(void);
bool shim_thread_is_registered(void);
/* Restricts the calling thread to one CPU: rte_thread_set_affinity. */
int shim_thread_set_affinity(unsigned int cpu);
/* How late the kernel may wake the calling thread: prctl(PR_SET_TIMERSLACK). */
int shim_thread_set_timer_slack(unsigned long nanoseconds);
/* Time that the calling thread has run: clock_gettime(CLOCK_THREAD_CPUTIME_ID). */
uint64_t shim_thread_cpu_nanoseconds(void);
/* The interface that a packet socket is bound to: getsockname; 0 when it is not bound, -1 when it is none. */
int shim_packet_socket_interface(int descriptor);
/* Called for each message; text is not terminated. */
typedef void (*shim_log_sink)(uint32_t level, const char *text, size_t length);
/* Sends DPDK's messages to the sink: rte_openlog_stream. */
int shim_log_to(shim_log_sink sink);

/* rte_cycles */

uint64_t shim_rdtsc(void);

/* The ones' complement sum of some bytes in 16 bits, in their order. */
uint16_t shim_raw_cksum(const void *bytes, size_t length);

/* rte_mempool, rte_mbuf */

/*
 * rte_pktmbuf_pool_create_by_ops without private room; in ordinary memory no room is left between mbufs.
 */
struct rte_mempool *shim_pktmbuf_pool_create(const char *name, unsigned int count, unsigned int cache,
					     uint16_t data_room, int socket, const char *ops);
struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool);
int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void shim_pktmbuf_free(struct rte_mbuf *mbuf);

/* rte_ring: one consumer */

/* Several producers. */
struct rte_ring *shim_ring_create(const char *name, unsigned int capacity, int socket);
/* One producer. */
struct rte_ring *shim_ring_create_single(const char *name, unsigned int capacity, int socket);
unsigned int shim_ring_enqueue_burst(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned int count);
unsigned int shim_ring_sc_dequeue_burst(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned int count);

unsigned int shim_ring_count(const struct rte_ring *ring);
unsigned int shim_ring_get_capacity(const struct rte_ring *ring);

/* rte_ethdev */

uint16_t shim_eth_rx_burst(uint16_t nic, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t shim_eth_tx_burst(uint16_t nic, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
int shim_eth_link_up(uint16_t nic, bool *up, uint32_t *megabits);
/* The first NIC that matches the devargs: RTE_ETH_FOREACH_MATCHING_DEV; RTE_MAX_ETHPORTS when there is none. */
uint16_t shim_eth_matching(const char *devargs);

#endif
