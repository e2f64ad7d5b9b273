/* Answers CPUID as an x86 processor of 2013 would: see old_x86.py.

   Where libraries asked the processor, there is now RSM, an instruction of as many bytes that faults in any program. */

#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

static const uint8_t RSM[] = {0x0f, 0xaa};

/* What the processor must not have, by leaf and register. */
static const uint32_t AVX512 = /* 7 EBX: F, DQ, IFMA, PF, ER, CD, BW, VL */
    1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31;
static const uint32_t AVX2 = 1u << 5;                               /* 7 EBX */
static const uint32_t AVX = 1u << 28 | 1u << 12 | 1u << 29;         /* 1 ECX: with FMA and F16C */
static const uint32_t LATER = /* 7 ECX: VBMI, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ */
    1u << 1 | 1u << 6 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 14;
static const uint32_t LATEST = /* 7 EDX: 4VNNIW, 4FMAPS, VP2INTERSECT, AMX and 16-bit floats */
    1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25;

static uint32_t without_1_ecx, without_7_ebx;

typedef int (*sigaction_function)(int, const struct sigaction*, struct sigaction*);

static struct sigaction others; /* the program's own handler of the fault, as Python's faulthandler has one */

static void answer(greg_t* registers) {
    uint32_t leaf = (uint32_t)registers[REG_RAX], part = (uint32_t)registers[REG_RCX], a, b, c, d;
    __cpuid_count(leaf, part, a, b, c, d);
    if (leaf == 1) {
        c &= ~without_1_ecx;
    } else if (leaf == 7 && part == 0) {
        a = 0; /* no further parts: there are AVX-VNNI, AVX-IFMA and AVX10 */
        b &= ~without_7_ebx;
        c &= ~LATER;
        d &= ~LATEST;
    } else if (leaf == 7 || leaf == 0x19 || leaf == 0x1d || leaf == 0x1e || leaf == 0x24) {
        a = b = c = d = 0;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += sizeof RSM;
}

static void on_illegal(int number, siginfo_t* info, void* context) {
    greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
    if (memcmp((const void*)registers[REG_RIP], RSM, sizeof RSM) == 0) {
        answer(registers);
    } else if (others.sa_flags & SA_SIGINFO) {
        others.sa_sigaction(number, info, context);
    } else if (others.sa_handler != SIG_DFL && others.sa_handler != SIG_IGN) {
        others.sa_handler(number);
    } else {
        ((sigaction_function)dlsym(RTLD_NEXT, "sigaction"))(SIGILL, &others, NULL); /* it happens again, and ends it */
    }
}

int sigaction(int number, const struct sigaction* wanted, struct sigaction* old) {
    if (number != SIGILL) {
        return ((sigaction_function)dlsym(RTLD_NEXT, "sigaction"))(number, wanted, old);
    }
    struct sigaction known = others;
    if (wanted != NULL) {
        others = *wanted;
    }
    if (old != NULL) {
        *old = known;
    }
    return 0;
}

__attribute__((constructor)) static void install(void) {
    const char* wanted = getenv("OLD_X86");
    without_7_ebx = wanted != NULL && strcmp(wanted, "avx512") == 0 ? 0 : AVX512;
    if (wanted != NULL && strcmp(wanted, "sse4") == 0) {
        without_1_ecx = AVX;
        without_7_ebx |= AVX2;
    }
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    ((sigaction_function)dlsym(RTLD_NEXT, "sigaction"))(SIGILL, &action, &others);
}
