# Libraries that Debian ships (scripts/bootstrap.sh installs them). This file is installed too, since the
# rooms are static libraries and whoever links them links these.
find_package(yaml-cpp REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(simdjson REQUIRED)
find_package(ZLIB REQUIRED)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)

find_path(SENTENCEPIECE_INCLUDE sentencepiece_processor.h REQUIRED)
find_library(SENTENCEPIECE_LIBRARY sentencepiece REQUIRED)
find_library(SENTENCEPIECE_TRAIN_LIBRARY sentencepiece_train REQUIRED)
mark_as_advanced(SENTENCEPIECE_INCLUDE SENTENCEPIECE_LIBRARY SENTENCEPIECE_TRAIN_LIBRARY)
if(NOT TARGET Lorikeet::sentencepiece)
  add_library(Lorikeet::sentencepiece INTERFACE IMPORTED)
  target_include_directories(Lorikeet::sentencepiece INTERFACE ${SENTENCEPIECE_INCLUDE})
  target_link_libraries(Lorikeet::sentencepiece INTERFACE
    ${SENTENCEPIECE_TRAIN_LIBRARY} ${SENTENCEPIECE_LIBRARY})
endif()

# FAISS wants BLAS and LAPACK. LibTorch's library has MKL's BLAS and most of LAPACK, OpenBLAS gives what that lacks. The
# loader takes the first library that has a symbol, for LibTorch's own calls too: LibTorch must be named before OpenBLAS,
# or its products would be OpenBLAS's. Options stand before all libraries.
find_path(FAISS_INCLUDE faiss/Index.h REQUIRED)
find_library(FAISS_LIBRARY faiss REQUIRED)
find_library(OPENBLAS_LIBRARY openblas REQUIRED)
mark_as_advanced(FAISS_INCLUDE FAISS_LIBRARY OPENBLAS_LIBRARY)
if(NOT TARGET Lorikeet::faiss)
  add_library(Lorikeet::faiss INTERFACE IMPORTED)
  target_include_directories(Lorikeet::faiss INTERFACE ${FAISS_INCLUDE})
  target_link_libraries(Lorikeet::faiss INTERFACE ${FAISS_LIBRARY} ${OPENBLAS_LIBRARY})
  target_link_options(Lorikeet::faiss INTERFACE
    "LINKER:--push-state,--no-as-needed,$<TARGET_FILE:Lorikeet::torch_cpu>,--pop-state")
endif()
