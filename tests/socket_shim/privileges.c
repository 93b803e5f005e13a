/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that give up what they may after they have started: another root
 * directory, another user. Connections they have go on, new ones work. */
#include "ends.h"

#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void talk(struct pair p, uint32_t seed) {
  for (uint64_t at = 0; at < 60000; at += 1500) {
    end_put(p.ours, 1500, seed, at);
    end_take(p.theirs, 1500, seed, at);
    end_put(p.theirs, 1500, seed + 1, at);
    end_take(p.ours, 1500, seed + 1, at);
  }
}

static void change_root(void) {
  char place[] = "/tmp/privileges.XXXXXX";
  CHECK(mkdtemp(place) != NULL && chdir(place) == 0 && rmdir(place) == 0);
  CHECK(chroot(".") == 0);
}
static void become_nobody(void) {
  CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
}
static void both(void) {
  change_root();
  become_nobody();
}

/* In a process of its own, since there is no way back. */
static void after(void (*change)(void), struct pair p) {
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    struct sockaddr_storage at;
    socklen_t size = 0;
    const int before = listen_at(V4, &at, &size);
    change();
    talk(p, 1);
    /* A listener of the days before, one of today, and both of their ends. */
    for (int i = 0; i < 2; ++i) {
      const int listener = i == 0 ? before : listen_at(V4, &at, &size);
      struct pair q = {{NULL, connect_to(&at, size)}, {NULL, -1}};
      q.theirs.fd = accept(listener, NULL, NULL);
      CHECK(q.theirs.fd >= 0 && close(listener) == 0);
      talk(q, 3);
      close_pair(q);
    }
    /* And what others connect to, or from. */
    struct pair q = make_pair(AS_CLIENT, V4);
    talk(q, 5);
    close_pair(q);
    q = make_pair(AS_SERVER, V4);
    talk(q, 7);
    close_pair(q);
    talk(p, 9);
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  close_pair(p);
}

static void another_root(struct pair p) { after(change_root, p); }
static void another_user(struct pair p) { after(become_nobody, p); }
static void another_both(struct pair p) { after(both, p); }

int main(void) {
  if (geteuid() != 0) {
    puts("skipped: only root can do this");
    return 77;
  }
  run_each("another root", another_root);
  run_each("another user", another_user);
  run_each("another root and user", another_both);
  return 0;
}
