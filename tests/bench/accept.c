/* The least a C program on libnetfilter_queue can do: accept every packet. The floor to compare with. */
#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <sys/socket.h>

static int accept_packet(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *data, void *unused)
{
    (void)message;
    (void)unused;
    return nfq_set_verdict(queue, ntohl(nfq_get_msg_packet_hdr(data)->packet_id), NF_ACCEPT, 0, NULL);
}

int main(void)
{
    static char buffer[1 << 17];
    struct nfq_handle *handle = nfq_open();
    struct nfq_q_handle *queue = handle ? nfq_create_queue(handle, 0, accept_packet, NULL) : NULL;
    int size = 16 << 20;

    if (!queue)
        return perror("nfq"), 1;
    nfq_set_mode(queue, NFQNL_COPY_PACKET, 0xffff);
    nfq_set_queue_maxlen(queue, 8192);
    setsockopt(nfq_fd(handle), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int length = recv(nfq_fd(handle), buffer, sizeof buffer, 0);
        if (length >= 0)
            nfq_handle_packet(handle, buffer, length);
        else if (errno != ENOBUFS)
            return perror("recv"), 1;
    }
}
