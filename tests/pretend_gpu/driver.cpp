// Stands where NVIDIA's libcuda.so.1 would: the program asks whether one is there.
extern "C" const int lorikeet_pretend_driver = 1;
