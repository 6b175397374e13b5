#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <linux/if_packet.h>

#include "shim.h"

int shim_errno(void)
{
	return rte_errno;
}

bool shim_thread_is_registered(void)
{
	return rte_lcore_id() != LCORE_ID_ANY;
}

int shim_thread_set_affinity(unsigned int cpu)
{
	rte_cpuset_t set;

	if (cpu >= CPU_SETSIZE)
		return -1;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return rte_thread_set_affinity(&set);
}

int shim_thread_set_timer_slack(unsigned long nanoseconds)
{
	return prctl(PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0);
}

uint64_t shim_thread_cpu_nanoseconds(void)
{
	struct timespec time = { 0 };

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

int shim_packet_socket_interface(int descriptor)
{
	struct sockaddr_ll address = { 0 };
	socklen_t length = sizeof(address);

	if (getsockname(descriptor, (struct sockaddr *)&address, &length) != 0 || address.sll_family != AF_PACKET)
		return -1;
	return address.sll_ifindex;
}

static shim_log_sink log_sink;

static ssize_t log_write(void *cookie, const char *text, size_t length)
{
	int level = rte_log_cur_msg_loglevel();

	(void)cookie;
	log_sink(level < 0 ? RTE_LOG_INFO : (uint32_t)level, text, length);
	return (ssize_t)length;
}

int shim_log_to(shim_log_sink sink)
{
	cookie_io_functions_t functions = { .write = log_write };
	FILE *stream;

	log_sink = sink;
	stream = fopencookie(NULL, "w", functions);
	if (stream == NULL)
		return -1;
	return rte_openlog_stream(stream);
}

uint64_t shim_rdtsc(void)
{
	return rte_rdtsc();
}

uint16_t shim_raw_cksum(const void *bytes, size_t length)
{
	return rte_raw_cksum(bytes, length);
}

static void free_memory(struct rte_mempool_memhdr *memory, void *zone)
{
	(void)memory;
	rte_memzone_free(zone);
}

/*
 * One piece of memory, object behind object. The default leaves the rest of each page after an object, at pages of 4 KiB two
 * fifths of the memory, and net_af_xdp does not reach what lies behind as many bytes as the objects have by themselves.
 */
static int populate_dense(struct rte_mempool *pool)
{
	char name[RTE_MEMZONE_NAMESIZE];
	size_t least, align;
	ssize_t bytes = rte_mempool_op_calc_mem_size_default(pool, pool->size, 0, &least, &align);

	if (bytes < 0)
		return (int)bytes;
	if (snprintf(name, sizeof(name), RTE_MEMPOOL_MZ_FORMAT "_0", pool->name) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	const struct rte_memzone *zone =
		rte_memzone_reserve_aligned(name, (size_t)bytes, pool->socket_id, RTE_MEMZONE_IOVA_CONTIG, align);
	if (zone == NULL)
		return -rte_errno;
	int populated = rte_mempool_populate_iova(pool, zone->addr, zone->iova, zone->len, free_memory,
						  (void *)(uintptr_t)zone);
	if (populated <= 0)
		rte_memzone_free(zone);
	else if ((uint32_t)populated < pool->size)
		populated = -ENOMEM;
	return populated == 0 ? -ENOMEM : populated;
}

struct rte_mempool *shim_pktmbuf_pool_create(const char *name, unsigned int count, unsigned int cache,
					     uint16_t data_room, int socket, const char *ops)
{
	struct rte_pktmbuf_pool_private private = { .mbuf_data_room_size = data_room };
	bool huge = rte_eal_has_hugepages();
	struct rte_mempool *pool =
		rte_mempool_create_empty(name, count, sizeof(struct rte_mbuf) + data_room, cache, sizeof(private),
					 socket, huge ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG);

	if (pool == NULL)
		return NULL;
	int result = rte_mempool_set_ops_byname(pool, ops, NULL);
	if (result == 0) {
		rte_pktmbuf_pool_init(pool, &private);
		result = huge ? rte_mempool_populate_default(pool) : populate_dense(pool);
	}
	if (result < 0) {
		rte_mempool_free(pool);
		rte_errno = -result;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}

struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void shim_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

/*
 * Relaxed tail synchronisation: a producer that is preempted in the middle of an enqueue does not hold up the
 * others, which matters where a worker shares its CPU. By default they wait for it once they are an eighth of the
 * ring ahead; without that bound they are ahead by what the ring holds, and then it is full.
 */
struct rte_ring *shim_ring_create(const char *name, unsigned int capacity, int socket)
{
	struct rte_ring *ring =
		rte_ring_create(name, capacity, socket, RING_F_EXACT_SZ | RING_F_MP_RTS_ENQ | RING_F_SC_DEQ);
	if (ring != NULL)
		rte_ring_set_prod_htd_max(ring, UINT32_MAX);
	return ring;
}

struct rte_ring *shim_ring_create_single(const char *name, unsigned int capacity, int socket)
{
	return rte_ring_create(name, capacity, socket, RING_F_EXACT_SZ | RING_F_SP_ENQ | RING_F_SC_DEQ);
}

unsigned int shim_ring_enqueue_burst(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_ring_enqueue_burst(ring, (void *const *)mbufs, count, NULL);
}

unsigned int shim_ring_sc_dequeue_burst(struct rte_ring *ring, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_ring_sc_dequeue_burst(ring, (void **)mbufs, count, NULL);
}

unsigned int shim_ring_count(const struct rte_ring *ring)
{
	return rte_ring_count(ring);
}

unsigned int shim_ring_get_capacity(const struct rte_ring *ring)
{
	return rte_ring_get_capacity(ring);
}

uint16_t shim_eth_rx_burst(uint16_t nic, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(nic, queue, mbufs, count);
}

uint16_t shim_eth_tx_burst(uint16_t nic, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(nic, queue, mbufs, count);
}

int shim_eth_link_up(uint16_t nic, bool *up, uint32_t *megabits)
{
	struct rte_eth_link link = { 0 };
	int failed = rte_eth_link_get_nowait(nic, &link);

	*up = link.link_status == RTE_ETH_LINK_UP;
	*megabits = link.link_speed;
	return failed;
}

uint16_t shim_eth_matching(const char *devargs)
{
	struct rte_dev_iterator iterator;
	uint16_t nic;

	if (rte_eth_iterator_init(&iterator, devargs) != 0)
		return RTE_MAX_ETHPORTS;
	nic = rte_eth_iterator_next(&iterator);
	if (nic != RTE_MAX_ETHPORTS)
		rte_eth_iterator_cleanup(&iterator);
	return nic;
}
