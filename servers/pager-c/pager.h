/* What a pager needs of ../../ipc-proto/SPEC.md (§ is a section, P an obligation there), and what the files of this
 * one have of each other. Read on in serve.c. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint64_t u64;

enum { REPLY_RECEIVE = 0, MEM_OP = 2, LOG = 5, STAT = 7, KEEP = 9, FINISH = 10, NO_REPLY = 256, VM_ENDED = 4 };
enum { GOT_FAULT, GOT_EXIT, GOT_CALL, GOT_NOTICE, GOT_REFUSED, UNKNOWN_MESSAGE = 255 };     /* §2.2 */
enum { HANDLE_VM = 8, MAJOR = 0, MINOR = 3, HANDED_OVER = 1 };                      /* §2.3, §4, §13.4 */

struct words { u64 w[6]; };                             /* of a message, and of its answer: §2.1 */
enum { VCPU, WINDOW, VIOLATION = 0, MISCONFIGURATION, LOG_FULL, ACCESS_WRITE = 2 }; /* §5.1: origin, kind, access */
enum { MAP = 1, MMIO, RETRY, PENDING, DENY };                                       /* §5.2 */
enum { NO_SLOT = 1, NO_MEMORY, BY_POLICY, INTERNAL };                               /* §9.2 */
enum { READ = 1, WRITE = 2, EXECUTE = 4, LEVEL_4K = 1, WRITE_BACK = 6, LEAVES = 512 };      /* §5.3 */
enum { UNSEEN = 1 << 18, SHAPE = (1 << 19) - 1 };
#define REPLY(variant, ...) ((struct words){ { (u64)(variant) << 56 | __VA_ARGS__ } })
#define DENIAL(reason) REPLY(DENY, (u64)(reason) << 32)

enum { SHOW = 1, UNMAP, PROTECT, LEAF, DONATE, INFO, READY, GENERATION = 9, SET_LOG, OWNED = 12 };  /* §7 */
enum { REFUSED_NOT_ASKED = 7, REFUSED_STALE = 21, REFUSED_NO_TABLES, REFUSED_LARGE_PAGE };      /* §9.1 */

enum { NORMAL, SMM, SPACES, TELL_WHY = 0, TOPICS = 4 };                             /* §8 */
enum { READONLY = 1, LOG_DIRTY_PAGES = 2, PRIVATE = 4, KNOWN_FLAGS = 7, FEATURE_DIRTY_LOG = 1, FEATURE_HAND_OVER = 4 };
enum { HELLO, CREATE, DELETE, MOVE, SET_FLAGS, STATS, DIRTY_LOG, TRACK, WHY, MEMORY_TYPE, TELL, POLICY, IDLE,
       PREFAULT, HAND_OVER, TAKE_OVER, REQUESTS };
enum { END, VER, ID, SPACE, FLAGS, ADDRESS, PAGES, TRACKING, REGISTER, VALUE, TOPIC, ROW, TEXT, FIELDS };
struct request { u64 variant, field[FIELDS]; };         /* ADDRESS: a gfn, a gpa, or an offset in a slot */
enum { TOLD_HELLO, TOLD_DONE, TOLD_REFUSED, TOLD_DIRTY, TOLD_LINE, TOLD_IDLE, TOLD_LEFT, TOLD_SLOT };
enum { MALFORMED, VERSION, NO_HELLO, BAD_SIZE, BEYOND_GUEST, OVERLAP, EXISTS, NO_SUCH_SLOT, TOO_MANY, UNKNOWN_FLAG,
       OUT_OF_MEMORY, KERNEL, NOT_LOGGED, UNKNOWN_REGISTER, UNKNOWN_POLICY, NO_HAND_OVER = 16 };
enum { DIRTY_WORDS = 16, DIRTY_PAGES = DIRTY_WORDS * 64 };
struct answer { u64 count, value[2 + DIRTY_WORDS]; };   /* as it travels: integers */
#define ANSWER(...) ((struct answer){ sizeof((u64[]){ __VA_ARGS__ }) / sizeof(u64), { __VA_ARGS__ } })
#define REFUSE(...) ANSWER(TOLD_REFUSED, __VA_ARGS__)
enum { PAGE = 4096, MAX_VMS = 8, MAX_VCPUS = 4, MAX_MESSAGE = 256, MAX_TEXT = 200, MAX_LINE = 512 };    /* §10 */

extern u8 *const message;                               /* machine.c, host.c: the message page */
void *frame(u64 pfn);
u64 kernel(u64 number, u64 words[6]);                   /* a system call: words in and out, its status comes back */

struct cursor { u8 *at, *end; bool wrong; };            /* postcard.c: once wrong, it stays wrong */
u64 get(struct cursor *c, unsigned bits);
u8 get_byte(struct cursor *c);
struct cursor get_bytes(struct cursor *c);
void put(struct cursor *c, u64 value);
u64 answer_bytes(u16 vm, u64 length);

void start(struct cursor *boot_information);            /* serve.c */
_Noreturn void serve(void);

extern u64 first_pfn, frames, guest_frames, known_vms;  /* pager.c: what `start` finds */
void pager_start(u64 incarnation);
struct words pager_fault(const u64 w[6], u64 refusal);
struct answer pager_request(u16 vm, const struct request *request);
void pager_vm_ended(u16 vm);
