/*
 * Says that a processor is too old before anything runs that was compiled for a newer one: afterwards there is only SIGILL. Compiled
 * for the oldest processor of its kind, and linked whole, since nobody calls it.
 */

#include <unistd.h>

#if defined(__x86_64__) && defined(BUILT_FOR_V3)

static const char too_old[] =
	"shunt: this processor is older than x86-64-v3 (it lacks AVX2 or BMI2), and this program was built for that level: "
	"build it for this machine with RUSTFLAGS='-C target-cpu=native' cargo build --release\n";

static void look_at_the_processor(void)
{
	__builtin_cpu_init();
	if (__builtin_cpu_supports("x86-64-v3"))
		return;
	(void)!write(STDERR_FILENO, too_old, sizeof(too_old) - 1);
	_exit(1);
}

/* Before the constructors of DPDK's libraries, which are built for SSE4.2. */
__attribute__((section(".preinit_array"), used)) static void (*const before_all)(void) = look_at_the_processor;

#endif
