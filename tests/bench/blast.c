/* Traffic for the benchmark, quick enough not to be what is measured.
 *
 *   blast udp-send ADDRESS PORT SECONDS BYTES RATE   RATE packets a second, 0: as fast as it can
 *   blast udp-sink PORT SECONDS                      prints "ready", then packets a second between the first and the last
 *                                                    arrival, and how many; answers the first 64
 *   blast tcp-send ADDRESS PORT SECONDS
 *   blast tcp-sink PORT SECONDS                      prints "ready", then bits a second of one connection
 *   blast tcp-steps PORT SECONDS                     prints "ready", then time and bytes of one connection, ten times a second
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWERS = 64, BATCH = 32, PACED = 8, CHUNK = 1 << 18 };
static char buffer[CHUNK];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* The sender may start. */
static void ready(void)
{
    puts("ready");
    fflush(stdout);
}

static int open_socket(int type, const char *address, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, type, 0), size = 4 << 20, on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (type == SOCK_DGRAM)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    if (address) {
        inet_pton(AF_INET, address, &to.sin_addr);
        if (connect(fd, (struct sockaddr *)&to, sizeof to))
            die("connect");
    } else if (bind(fd, (struct sockaddr *)&to, sizeof to))
        die("bind");
    return fd;
}

static void udp_send(const char *address, int port, double seconds, int size, double rate)
{
    struct iovec data = {buffer, size};
    struct mmsghdr batch[BATCH] = {0};
    int fd = open_socket(SOCK_DGRAM, address, port);
    double start = now(), end = start + seconds, sent = 0;

    for (int i = 0; i < BATCH; i++)
        batch[i].msg_hdr = (struct msghdr){.msg_iov = &data, .msg_iovlen = 1};
    while (now() < end) {
        sendmmsg(fd, batch, rate ? PACED : BATCH, 0); /* refused or full: the next one may pass */
        sent += PACED;
        double ahead = rate ? sent / rate - (now() - start) : 0;
        if (ahead > 0)
            usleep(ahead * 1e6);
    }
}

static void udp_sink(int port, double seconds)
{
    struct iovec data[BATCH];
    struct mmsghdr batch[BATCH] = {0};
    struct sockaddr_in from[BATCH];
    struct timeval wait = {0, 300000};
    int fd = open_socket(SOCK_DGRAM, NULL, port);
    double end = now() + seconds, first = 0, last = 0;
    long packets = 0;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    for (int i = 0; i < BATCH; i++) {
        data[i] = (struct iovec){buffer + i * 2048, 2048};
        batch[i].msg_hdr = (struct msghdr){.msg_iov = &data[i], .msg_iovlen = 1};
    }
    ready();
    while (now() < end) {
        for (int i = 0; packets < ANSWERS && i < BATCH; i++) {
            batch[i].msg_hdr.msg_name = &from[i];
            batch[i].msg_hdr.msg_namelen = sizeof from[i];
        }
        int got = recvmmsg(fd, batch, BATCH, MSG_WAITFORONE, NULL);
        for (int i = 0; packets + i < ANSWERS && i < got; i++)
            sendto(fd, buffer, 1, 0, (struct sockaddr *)&from[i], sizeof from[i]);
        if (got <= 0)
            continue;
        last = now();
        if (!first)
            first = last;
        packets += got;
    }
    printf("%.0f %ld\n", last > first ? packets / (last - first) : 0, packets);
}

static void tcp_send(const char *address, int port, double seconds)
{
    int fd = open_socket(SOCK_STREAM, address, port);
    double end = now() + seconds;

    while (now() < end)
        if (send(fd, buffer, sizeof buffer, MSG_NOSIGNAL) < 0)
            die("send");
}

static void tcp_sink(int port, double seconds, int steps)
{
    int listener = open_socket(SOCK_STREAM, NULL, port);
    double start, last, end, next = 0, bytes = 0;

    if (listen(listener, 1))
        die("listen");
    ready();
    int fd = accept(listener, NULL, NULL);
    start = last = now();
    for (end = start + seconds; last < end;) {
        ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        if (got <= 0)
            break;
        bytes += got;
        last = now();
        for (; steps && last >= next; next = last + 0.1) {
            printf("%.6f %.0f\n", last, bytes);
            fflush(stdout);
        }
    }
    if (!steps)
        printf("%.0f\n", bytes * 8 / (last - start));
}

int main(int argc, char **argv)
{
    if (argc == 7 && !strcmp(argv[1], "udp-send"))
        udp_send(argv[2], atoi(argv[3]), atof(argv[4]), atoi(argv[5]), atof(argv[6]));
    else if (argc == 4 && !strcmp(argv[1], "udp-sink"))
        udp_sink(atoi(argv[2]), atof(argv[3]));
    else if (argc == 5 && !strcmp(argv[1], "tcp-send"))
        tcp_send(argv[2], atoi(argv[3]), atof(argv[4]));
    else if (argc == 4 && (!strcmp(argv[1], "tcp-sink") || !strcmp(argv[1], "tcp-steps")))
        tcp_sink(atoi(argv[2]), atof(argv[3]), argv[1][5] == 't');
    else
        return fprintf(stderr, "usage: see the source\n"), 2;
    return 0;
}
