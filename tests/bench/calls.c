/* Many short calls, round trips and floods for the benchmark.
 *
 *   calls echo udp|tcp PORT                          prints "ready", sends everything back
 *   calls ping udp|tcp ADDRESS PORT SECONDS PAUSE    PAUSE us between two starts (udp), 0: when the answer has come;
 *                                                    prints start and duration of each in ns, 1 s when it was lost
 *   calls serve PORT PORTS                           prints "ready", answers each connection's request
 *   calls connect ADDRESS PORT PORTS SECONDS         connect, request, response, close: prints how many a
 *                                                    second, and how many
 *   calls flood udp|syn SOURCE BITS ADDRESS BITS PORT RATE SECONDS COUNT FIRST
 *
 * flood sends first packets of new connections: from SOURCE with its last BITS changed, to ADDRESS with its last BITS
 * changed. COUNT packets at most, 0: no limit; RATE a second, 0: as fast as it can. Number FIRST is the first packet, so a
 * second flood can continue the first one. No two packets have the same addresses and ports. It prints how many it sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PARALLEL = 64, BATCH = 32, SOURCE_PORTS = 60000, FIRST_SOURCE_PORT = 2000, LOST = 1000000000 };
static char buffer[2048];

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void until(int64_t when)
{
    struct timespec t = {when / 1000000000, when % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static int checked(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static struct sockaddr_in place(const char *address, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};

    if (address)
        inet_pton(AF_INET, address, &to.sin_addr);
    return to;
}

static int bound(int type, int port)
{
    struct sockaddr_in at = place(NULL, port);
    int fd = socket(AF_INET, type, 0), on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    checked(bind(fd, (struct sockaddr *)&at, sizeof at), "bind");
    if ((type & 0xf) == SOCK_STREAM)
        checked(listen(fd, 4096), "listen");
    return fd;
}

static void ready(void)
{
    puts("ready");
    fflush(stdout);
}

static void echo(int tcp, int port)
{
    int fd = bound(tcp ? SOCK_STREAM : SOCK_DGRAM, port), on = 1;

    ready();
    while (tcp) {
        int call = checked(accept(fd, NULL, NULL), "accept");
        ssize_t got;

        setsockopt(call, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        while ((got = recv(call, buffer, sizeof buffer, 0)) > 0)
            send(call, buffer, got, MSG_NOSIGNAL);
        close(call);
    }
    for (;;) {
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &size);

        if (got >= 0)
            sendto(fd, buffer, got, 0, (struct sockaddr *)&from, size);
    }
}

/* The next message begins when the answer has come. A lost datagram counts as one second. */
static void in_turn(int fd, int tcp, double seconds)
{
    struct timeval wait = {tcp ? 20 : 1, 0};
    int64_t end = now() + seconds * 1e9, began;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    for (uint64_t number = 1, answer; (began = now()) < end; number++) {
        ssize_t got;

        send(fd, &number, sizeof number, MSG_NOSIGNAL);
        do
            got = recv(fd, &answer, sizeof answer, tcp ? MSG_WAITALL : 0);
        while (got >= 0 && answer != number); /* an answer that came too late */
        printf("%lld %lld\n", (long long)began, (long long)(got < 0 ? LOST : now() - began));
    }
}

/* A message every `pause` ns, whether the answers come or not. Without an answer within a second it is lost. */
static void at_times(int fd, double seconds, int64_t pause)
{
    uint64_t count = seconds * 1e9 / pause, sent = 0, answer;
    int64_t *began = calloc(count, sizeof *began), *took = calloc(count, sizeof *took), start = now(), at;
    struct pollfd readable = {fd, POLLIN, 0};

    while ((at = now()) < start + (int64_t)count * pause + LOST) {
        int64_t next = sent < count ? start + (int64_t)sent * pause : start + (int64_t)count * pause + LOST;
        struct timespec wait = {(next - at) / 1000000000, (next - at) % 1000000000};

        if (next <= at) {
            began[sent] = at;
            took[sent] = LOST;
            send(fd, &sent, sizeof sent, MSG_NOSIGNAL);
            sent++;
        } else if (ppoll(&readable, 1, &wait, NULL) > 0 && recv(fd, &answer, sizeof answer, 0) == sizeof answer &&
                   answer < sent && took[answer] == LOST)
            took[answer] = now() - began[answer];
    }
    for (uint64_t i = 0; i < count; i++)
        printf("%lld %lld\n", (long long)began[i], (long long)took[i]);
}

static void ping(int tcp, const char *address, int port, double seconds, int64_t pause)
{
    struct sockaddr_in to = place(address, port);
    int fd = socket(AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0), on = 1;
    static char large[1 << 16];

    checked(connect(fd, (struct sockaddr *)&to, sizeof to), "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setvbuf(stdout, large, _IOFBF, sizeof large);
    if (pause)
        at_times(fd, seconds, pause * 1000);
    else
        in_turn(fd, tcp, seconds);
}

static void serve(int port, int ports)
{
    int poll = epoll_create1(0), listeners[ports];
    struct epoll_event events[PARALLEL];

    for (int i = 0; i < ports; i++) {
        listeners[i] = bound(SOCK_STREAM | SOCK_NONBLOCK, port + i);
        epoll_ctl(poll, EPOLL_CTL_ADD, listeners[i], &(struct epoll_event){EPOLLIN, {.u64 = (uint64_t)i << 32 | 1}});
    }
    ready();
    for (;;) {
        int got = epoll_wait(poll, events, PARALLEL, -1);

        for (int i = 0; i < got; i++) {
            uint64_t of = events[i].data.u64;
            int fd = of >> 32;

            if (of & 1) {
                while ((fd = accept4(listeners[of >> 32], NULL, NULL, SOCK_NONBLOCK)) >= 0)
                    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){EPOLLIN, {.u64 = (uint64_t)fd << 32}});
            } else {
                ssize_t length = recv(fd, buffer, sizeof buffer, 0);

                if (length > 0)
                    send(fd, buffer, 512, MSG_NOSIGNAL);
                else if (!length || errno != EAGAIN)
                    close(fd);
            }
        }
    }
}

static void call(int poll, const char *address, int port)
{
    struct sockaddr_in to = place(address, port);
    int fd = checked(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");

    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        checked(-1, "connect");
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){EPOLLOUT, {.fd = fd}});
}

static void connect_many(const char *address, int port, int ports, double seconds)
{
    int poll = epoll_create1(0);
    struct epoll_event events[PARALLEL];
    int64_t began = now(), end = began + seconds * 1e9;
    long done = 0, next = 0;

    for (; next < PARALLEL; next++)
        call(poll, address, port + next % ports);
    while (now() < end) {
        int got = epoll_wait(poll, events, PARALLEL, 10);

        for (int i = 0; i < got; i++) {
            int fd = events[i].data.fd;
            struct epoll_event answer = {EPOLLIN, {.fd = fd}};

            if (events[i].events == EPOLLOUT && send(fd, buffer, 64, MSG_NOSIGNAL) == 64) {
                epoll_ctl(poll, EPOLL_CTL_MOD, fd, &answer);
                continue;
            }
            done += recv(fd, buffer, sizeof buffer, 0) > 0; /* else refused: not counted */
            close(fd);
            call(poll, address, port + next++ % ports);
        }
    }
    printf("%.0f %ld\n", done / ((now() - began) / 1e9), done);
}

static uint32_t sum(const void *data, int bytes, uint32_t so_far)
{
    const uint16_t *words = data;

    for (int i = 0; i < bytes / 2; i++)
        so_far += words[i];
    return so_far;
}

struct first {
    uint8_t version, tos;
    uint16_t length, id, fragment;
    uint8_t ttl, protocol;
    uint16_t checksum;
    uint32_t source, destination;
    uint16_t ports[2];
    union {
        struct {
            uint16_t length, checksum;
            char data[20];
        } udp;
        struct {
            uint32_t seq, ack;
            uint16_t flags, window, checksum, urgent;
        } tcp;
    };
};

static void make(struct first *p, int udp, const char **words, uint64_t number)
{
    uint32_t index = number % SOURCE_PORTS, turn = number / SOURCE_PORTS;
    uint32_t scattered = (index * 7919 + turn) * 2654435761u, unique = turn * 257 + index * 7919;
    int port = atoi(words[4]), bytes = udp ? 28 : 20, source = atoi(words[1]), destination = atoi(words[3]);
    uint32_t sum_of;

    memset(p, 0, sizeof *p);
    *p = (struct first){.version = 0x45, .length = htons(20 + bytes), .ttl = 64, .protocol = udp ? 17 : 6};
    /* Packets with one source port differ in the remote address: `unique` depends on the turn. */
    p->source = htonl(ntohl(inet_addr(words[0])) + (udp ? scattered >> 8 : unique) % (1u << source));
    p->destination = htonl(ntohl(inet_addr(words[2])) + (destination ? unique % (1u << destination) : 0));
    p->ports[0] = htons(FIRST_SOURCE_PORT + index);
    p->ports[1] = htons(port);
    if (udp)
        p->udp.length = htons(bytes);
    else {
        p->tcp.seq = htonl(scattered);
        p->tcp.flags = htons(0x5002);
        p->tcp.window = htons(64240);
    }
    sum_of = sum(&p->source, 8 + bytes, htons(p->protocol) + htons(bytes));
    while (sum_of >> 16)
        sum_of = (sum_of & 0xffff) + (sum_of >> 16);
    *(udp ? &p->udp.checksum : &p->tcp.checksum) = ~sum_of;
}

static void flood(int udp, const char **words)
{
    static struct first packets[BATCH];
    struct iovec data[BATCH];
    struct mmsghdr batch[BATCH] = {0};
    struct sockaddr_in to[BATCH];
    int fd = checked(socket(AF_INET, SOCK_RAW, IPPROTO_RAW), "socket"), size = 4 << 20;
    double rate = atof(words[5]);
    int64_t began = now(), end = began + atof(words[6]) * 1e9;
    uint64_t first = atoll(words[8]), most = atoll(words[7]), sent = 0;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    while (now() < end && (!most || sent < most)) {
        int count = most && most - sent < BATCH ? (int)(most - sent) : BATCH;

        for (int i = 0; i < count; i++) {
            make(&packets[i], udp, words, first + sent + i);
            data[i] = (struct iovec){&packets[i], ntohs(packets[i].length)};
            to[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {packets[i].destination}};
            batch[i].msg_hdr =
                (struct msghdr){.msg_iov = &data[i], .msg_iovlen = 1, .msg_name = &to[i], .msg_namelen = sizeof *to};
        }
        int went = sendmmsg(fd, batch, count, 0);
        sent += went > 0 ? went : 1; /* refused or full: the next one may pass */
        if (rate > 0)
            until(began + (int64_t)(sent / rate * 1e9));
    }
    printf("%llu\n", (unsigned long long)sent);
}

int main(int argc, char **argv)
{
    int udp = argc > 2 && !strcmp(argv[2], "udp");

    if (argc == 4 && !strcmp(argv[1], "echo"))
        echo(!udp, atoi(argv[3]));
    else if (argc == 7 && !strcmp(argv[1], "ping"))
        ping(!udp, argv[3], atoi(argv[4]), atof(argv[5]), atoi(argv[6]));
    else if (argc == 4 && !strcmp(argv[1], "serve"))
        serve(atoi(argv[2]), atoi(argv[3]));
    else if (argc == 6 && !strcmp(argv[1], "connect"))
        connect_many(argv[2], atoi(argv[3]), atoi(argv[4]), atof(argv[5]));
    else if (argc == 12 && !strcmp(argv[1], "flood"))
        flood(udp, (const char **)argv + 3);
    else
        return fprintf(stderr, "usage: see the source\n"), 2;
    return 0;
}
