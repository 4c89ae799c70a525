"""build: how the compiled core was made."""

cdef extern from *:
    """
    #if defined(__clang__)
    #define MANTRA_COMPILER "clang " __clang_version__
    #else
    #define MANTRA_COMPILER "gcc " __VERSION__
    #endif
    #if defined(__SSE2__) && !defined(MANTRA_PORTABLE)
    #define MANTRA_SIMD "SSE2"
    #else
    #define MANTRA_SIMD ""
    #endif
    #if defined(__OPTIMIZE__)
    #define MANTRA_OPTIMISED 1
    #else
    #define MANTRA_OPTIMISED 0
    #endif
    """
    const char *MANTRA_COMPILER
    const char *MANTRA_SIMD
    bint MANTRA_OPTIMISED

COMPILER = (<bytes>MANTRA_COMPILER).decode().strip()
SIMD = (<bytes>MANTRA_SIMD).decode()        # what the JSON scanner looks at bytes with; "": eight at a time, portably
OPTIMISED = bool(MANTRA_OPTIMISED)
