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
