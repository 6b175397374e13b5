/*
 * Stands for the kernel's IPVS in front of keepalived's checkers, where the kernel has none: a library to be loaded before all others.
 * Questions by the older interface (getsockopt, setsockopt) are answered, and what real servers are told is written down, a line each:
 *
 *     VIP:PORT WEIGHT        added, or with another weight
 *     VIP:PORT -             taken out
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/ip_vs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The version that keepalived reads: 1.2.1. */
static const int VERSION = 0x010201;

static void note(const struct ip_vs_service_user *service, const char *weight)
{
    char vip[INET_ADDRSTRLEN], line[64];
    const char *path = getenv("SHUNT_IPVS_NOTES");
    inet_ntop(AF_INET, &service->addr, vip, sizeof vip);
    int length = snprintf(line, sizeof line, "%s:%u %s\n", vip, ntohs(service->port), weight);
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (file >= 0) {
        if (write(file, line, length) != length)
            abort();
        close(file);
    }
}

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict length)
{
    int (*next)(int, int, int, void *, socklen_t *) = dlsym(RTLD_NEXT, "getsockopt");
    if (level != IPPROTO_IP || name < IP_VS_BASE_CTL || name > IP_VS_SO_GET_MAX)
        return next(fd, level, name, value, length);
    memset(value, 0, *length);
    if (name == IP_VS_SO_GET_INFO)
        ((struct ip_vs_getinfo *)value)->version = VERSION;
    return 0;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    int (*next)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, "setsockopt");
    if (level != IPPROTO_IP || name < IP_VS_BASE_CTL || name > IP_VS_SO_SET_MAX)
        return next(fd, level, name, value, length);
    const struct ip_vs_service_user *service = value;
    if (length >= sizeof *service + sizeof(struct ip_vs_dest_user)) {
        const struct ip_vs_dest_user *real = (const void *)(service + 1);
        char weight[16];
        snprintf(weight, sizeof weight, "%d", real->weight);
        if (name == IP_VS_SO_SET_ADDDEST || name == IP_VS_SO_SET_EDITDEST)
            note(service, weight);
        else if (name == IP_VS_SO_SET_DELDEST)
            note(service, "-");
    }
    return 0;
}
