/* The floor for a program that sees every packet: accepts each one and sets its mark, in batches.
 *
 *   batched QUEUES      1: packets of queue 0; 2: queue 0 and queue 1, each packet in both
 *
 * As the daemon does it: super-packets, many messages a recvmmsg, many verdicts a send, at most 32 packets of queue 0
 * and 64 of queue 1 in turn. Prints "ready".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { RECEIVE = 32, SEND = 16, ROOM = (1 << 16) + 4096, FIRST = 32, LAST = 64, ROUNDS = 4, MARK = 0x800 };

struct request {
    struct nlmsghdr header;
    struct nfgenmsg family;
    char attributes[64];
};

struct verdict {
    struct nlmsghdr header;
    struct nfgenmsg family;
    struct nlattr verdict_attr;
    struct nfqnl_msg_verdict_hdr verdict;
    struct nlattr mark_attr;
    uint32_t mark;
};

static char room[RECEIVE][ROOM];
static struct iovec parts[RECEIVE];
static struct mmsghdr messages[RECEIVE];

static void add(struct request *r, int type, const void *value, int length)
{
    struct nlattr *at = (struct nlattr *)((char *)r + r->header.nlmsg_len);

    at->nla_type = type;
    at->nla_len = NLA_HDRLEN + length;
    memcpy(at + 1, value, length);
    r->header.nlmsg_len += NLA_ALIGN(at->nla_len);
}

static int bound(int number)
{
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER), size = 16 << 20;
    struct sockaddr_nl self = {.nl_family = AF_NETLINK};
    struct nfqnl_msg_config_cmd command = {.command = NFQNL_CFG_CMD_BIND, .pf = htons(AF_INET)};
    struct nfqnl_msg_config_params copy = {.copy_range = htonl(0xffff), .copy_mode = NFQNL_COPY_PACKET};
    uint32_t length = htonl(8192), gso = htonl(NFQA_CFG_F_GSO);
    struct request r = {
        .header = {.nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG, .nlmsg_flags = NLM_F_REQUEST},
        .family = {.res_id = htons(number)},
    };

    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    r.header.nlmsg_len = NLMSG_LENGTH(sizeof r.family);
    add(&r, NFQA_CFG_CMD, &command, sizeof command);
    add(&r, NFQA_CFG_PARAMS, &copy, 5); /* its size in the protocol, without the padding of the structure */
    add(&r, NFQA_CFG_QUEUE_MAXLEN, &length, sizeof length);
    add(&r, NFQA_CFG_FLAGS, &gso, sizeof gso);
    add(&r, NFQA_CFG_MASK, &gso, sizeof gso);
    if (fd < 0 || bind(fd, (struct sockaddr *)&self, sizeof self) || send(fd, &r, r.header.nlmsg_len, 0) < 0) {
        perror("queue");
        exit(1);
    }
    return fd;
}

/* Answers at most `most` messages without waiting; returns how many. */
static int drain(int fd, int number, int most)
{
    struct verdict out[SEND];
    int answered = 0;

    while (answered < most) {
        int filled = 0;
        int got = recvmmsg(fd, messages, most - answered < RECEIVE ? most - answered : RECEIVE, MSG_DONTWAIT, NULL);

        if (got <= 0)
            break;
        answered += got;
        for (int i = 0; i < got; i++) {
            struct nlmsghdr *message = (struct nlmsghdr *)room[i];
            struct nlattr *first = (struct nlattr *)(room[i] + NLMSG_LENGTH(sizeof(struct nfgenmsg)));

            if (message->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
                continue;
            out[filled++] = (struct verdict){
                .header = {sizeof *out, NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT, NLM_F_REQUEST, 0, 0},
                .family = {.res_id = htons(number)},
                .verdict_attr = {NLA_HDRLEN + sizeof out->verdict, NFQA_VERDICT_HDR},
                .verdict = {htonl(NF_ACCEPT), ((struct nfqnl_msg_packet_hdr *)(first + 1))->packet_id},
                .mark_attr = {NLA_HDRLEN + sizeof out->mark, NFQA_MARK},
                .mark = htonl(MARK),
            };
            if (filled == SEND) {
                send(fd, out, sizeof out, 0);
                filled = 0;
            }
        }
        if (filled)
            send(fd, out, filled * sizeof *out, 0);
    }
    return answered;
}

int main(int argc, char **argv)
{
    int queues = argc > 1 ? atoi(argv[1]) : 2;
    struct pollfd wait[2];

    for (int i = 0; i < RECEIVE; i++) {
        parts[i] = (struct iovec){room[i], ROOM};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    for (int i = 0; i < queues; i++)
        wait[i] = (struct pollfd){bound(i), POLLIN, 0};
    puts("ready");
    fflush(stdout);
    for (;;) {
        poll(wait, queues, -1);
        for (int round = 0; round < ROUNDS; round++)
            if (!(drain(wait[0].fd, 0, FIRST) + (queues > 1 ? drain(wait[1].fd, 1, LAST) : 0)))
                break;
    }
}
