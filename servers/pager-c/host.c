/* The pager as a program of the host: §12. */
#include "pager.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static u8 page[PAGE], bytes[4 + (1 << 16)], *memory;
u8 *const message = page;

void *frame(u64 pfn) {
    return memory + (pfn - first_pfn) * PAGE;
}

/* What is no frame stops the pager. */
static void expect(bool right) {
    if (!right) abort();
}

/* The next frame, behind its variant. The end of the input is the end of the system. */
static struct cursor read_frame(u64 variant) {
    uint32_t length;
    if (fread(&length, 1, 4, stdin) != 4) exit(0);
    expect(length <= 1 << 16 && fread(bytes, 1, length, stdin) == length);
    struct cursor c = { bytes, bytes + length, false };
    expect(get(&c, 32) == variant);
    return c;
}

u64 kernel(u64 number, u64 w[6]) {
    static u64 received;                                /* what is answered: a fault's answer has nothing in the page */
    u64 line = number == LOG || number == STAT, length = line ? w[1] : number || received != GOT_CALL ? 0 : w[0];
    struct cursor c = { bytes + 4, bytes + sizeof bytes, false };
    put(&c, 0), put(&c, number);
    for (int n = 0; n < 6; n++)
        put(&c, w[n]);
    put(&c, length);
    memcpy(c.at, page + (line ? PAGE - MAX_LINE : 0), length);
    uint32_t size = c.at + length - bytes;
    memcpy(bytes, (uint32_t[]){ size - 4 }, 4);
    expect(fwrite(bytes, 1, size, stdout) == size && !fflush(stdout));
    c = read_frame(1);
    u64 status = get(&c, 64);
    for (int n = 0; n < 6; n++)
        w[n] = get(&c, 64);
    struct cursor got = get_bytes(&c);
    expect(!c.wrong && c.at == c.end && got.end - got.at <= PAGE);
    memcpy(page, got.at, got.end - got.at);
    received = number == REPLY_RECEIVE || number == NO_REPLY ? status : received;
    return status;
}

int main(void) {
    struct cursor c = read_frame(0), info = get_bytes(&c);
    start(&info);
    get_bytes(&c);                                       /* the manifest */
    struct cursor path = get_bytes(&c);
    *path.end = 0;
    memory = mmap(NULL, frames * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, open((char *)path.at, O_RDWR), 0);
    expect(!c.wrong && c.at == c.end && memory != MAP_FAILED);
    serve();
}
