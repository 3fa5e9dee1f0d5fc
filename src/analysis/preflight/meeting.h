#pragma once
#include <string>

#include "lorikeet/parallel/launch.h"

namespace lorikeet {

/// Where all ranks find a server of this process, which is the first rank.
std::string own_address(const LaunchEnvironment& environment);
/// This machine's numeric address on the way to another one; empty where that has no way.
std::string address_towards(const std::string& host);
/// A port of this machine that nobody listens at now.
int free_port();

}  // namespace lorikeet
