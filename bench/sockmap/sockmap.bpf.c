// SPDX-License-Identifier: Apache-2.0
// For the kernel: TCP over IPv4 within this machine, past its TCP. Connections
// of a cgroup are remembered when they are established, and what is sent on one
// goes into the receive queue of its other end.
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FAMILY_INET 2

struct ends {
  __u32 own_address;
  __u32 own_port;
  __u32 other_address;
  __u32 other_port;
};

struct {
  __uint(type, BPF_MAP_TYPE_SOCKHASH);
  __uint(max_entries, 65536);
  __type(key, struct ends);
  __type(value, __u32);
} connections SEC(".maps");

SEC("sockops")
int remember(struct bpf_sock_ops* event) {
  if (event->family != FAMILY_INET) return 0;
  if (event->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
      event->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
    return 0;
  }
  // Of the two ports only the own one is in the order of this machine.
  struct ends key = {event->local_ip4, event->local_port, event->remote_ip4,
                     bpf_ntohl(event->remote_port)};
  bpf_sock_hash_update(event, &connections, &key, BPF_ANY);
  return 0;
}

SEC("sk_msg")
int pass_over(struct sk_msg_md* message) {
  struct ends key = {message->remote_ip4, bpf_ntohl(message->remote_port), message->local_ip4,
                     message->local_port};
  return bpf_msg_redirect_hash(message, &connections, &key, BPF_F_INGRESS);
}

char terms[] SEC("license") = "Apache-2.0";
