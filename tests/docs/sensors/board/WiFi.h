// Wi-Fi that is always there, and a TCP connection.
#pragma once

#include "Arduino.h"
#include <cerrno>
#include <netdb.h>
#include <sys/socket.h>

enum { WL_CONNECTED = 3 };
struct WiFiRadio {
    void begin(const char *, const char *) {}
    int status() { return WL_CONNECTED; }
};
inline WiFiRadio WiFi;

class WiFiClient {
  protected:
    int fd = -1;

  public:
    virtual ~WiFiClient() { hang_up(); }
    virtual bool connect(const char *host, uint16_t port) {
        addrinfo wanted{}, *found;
        wanted.ai_family = AF_INET, wanted.ai_socktype = SOCK_STREAM;
        if (getaddrinfo(host, std::to_string(port).c_str(), &wanted, &found)) return false;
        hang_up();
        fd = socket(AF_INET, SOCK_STREAM, 0);
        bool is_there = !::connect(fd, found->ai_addr, found->ai_addrlen);
        freeaddrinfo(found);
        if (!is_there) hang_up();
        return is_there;
    }
    virtual bool write(const std::string &bytes) {
        return ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == ssize_t(bytes.size());
    }
    // What has come, and nothing where nothing has: then `fd` says whether the line still stands.
    virtual std::string read() {
        char bytes[2048];
        ssize_t count = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (count == 0 || (count < 0 && errno != EAGAIN)) stop();
        return std::string(bytes, count > 0 ? count : 0);
    }
    virtual void stop() { hang_up(); }
    bool connected() const { return fd >= 0; }

  private:
    void hang_up() {
        if (fd >= 0) close(fd);
        fd = -1;
    }
};
