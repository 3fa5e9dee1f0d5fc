#include "meeting.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>

namespace lorikeet {

std::string address_towards(const std::string& host) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  if (::getaddrinfo(host.c_str(), "9", &hints, &found) != 0) return "";
  std::string address;
  for (const addrinfo* a = found; a != nullptr && address.empty(); a = a->ai_next) {
    // Connecting a datagram socket sends nothing; it only chooses the way.
    const int descriptor = ::socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    char text[NI_MAXHOST] = {};
    if (descriptor >= 0 && ::connect(descriptor, a->ai_addr, a->ai_addrlen) == 0 &&
        ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
        ::getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof text, nullptr, 0,
                      NI_NUMERICHOST) == 0) {
      address = text;
    }
    if (descriptor >= 0) ::close(descriptor);
  }
  ::freeaddrinfo(found);
  return address;
}

std::string own_address(const LaunchEnvironment& environment) {
  if (environment.local_world_size == environment.world_size) return "127.0.0.1";
  if (!environment.agent_hosts_store) return environment.master_address;  // ours
  // The launcher's agent may be on another machine, and a host's name unknown to the others.
  const std::string address = address_towards(environment.master_address);
  const bool is_here = address.empty() || address.starts_with("127.") || address == "::1";
  return is_here ? environment.master_address : address;
}

int free_port() {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  socklen_t size = sizeof address;
  ::bind(descriptor, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(descriptor);
  return ntohs(address.sin_port);
}

}  // namespace lorikeet
