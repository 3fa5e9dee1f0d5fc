# spdlog is Debian's and wants Debian's fmt; everything else uses the one inside LibTorch. So its one file
# is compiled apart, and core links spdlog's library without its include folders and definitions.
add_library(lorikeet_spdlog OBJECT ${CMAKE_SOURCE_DIR}/src/core/spdlog_sink.cpp)
target_include_directories(lorikeet_spdlog PRIVATE ${CMAKE_SOURCE_DIR}/include)
target_link_libraries(lorikeet_spdlog PRIVATE lorikeet_flags spdlog::spdlog)
target_sources(lorikeet_core PRIVATE $<TARGET_OBJECTS:lorikeet_spdlog>)
target_link_libraries(lorikeet_core INTERFACE $<LINK_ONLY:spdlog::spdlog>)

add_dependencies(lorikeet_core lorikeet_build_info)
target_include_directories(lorikeet_core PRIVATE ${CMAKE_BINARY_DIR}/generated)
