// LibTorch keeps memory to the end, which is not what this program looks for.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }
