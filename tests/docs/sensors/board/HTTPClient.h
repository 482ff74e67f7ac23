// What a sketch sees of the core's HTTPClient, and the headers that it sends (espressif/arduino-esp32,
// libraries/HTTPClient): head and body in two writes.
#pragma once

#include "WiFiClientSecure.h"

class HTTPClient {
    WiFiClientSecure *line = nullptr;
    std::string host, path, headers, body;
    uint16_t port = 443;

  public:
    bool begin(WiFiClientSecure &client, const String &url) {
        size_t start = strlen("https://"), slash = url.find('/', start), colon = url.find(':', start);
        line = &client, host = url.substr(start, colon - start), path = url.substr(slash), headers.clear();
        port = uint16_t(atoi(url.c_str() + colon + 1));
        return true;
    }
    void addHeader(const String &name, const String &value) { headers += name + ": " + value + "\r\n"; }
    const String getString() const { return body; }
    void end() {}

    int POST(const String &payload) {
        if (!line->connected() && !line->connect(host.c_str(), port)) return -1;
        line->write("POST " + path + " HTTP/1.1\r\nHost: " + host + ":" + std::to_string(port) +
                    "\r\nUser-Agent: ESP32HTTPClient\r\nConnection: keep-alive\r\n"
                    "Accept-Encoding: identity;q=1,chunked;q=0.1,*;q=0\r\n" + headers +
                    "Content-Length: " + std::to_string(payload.size()) + "\r\n\r\n");
        line->write(payload);
        std::string answer;
        size_t end = std::string::npos, length = 0;
        while (end == std::string::npos || answer.size() < end + 4 + length) {
            if (!line->connected()) return -5;
            delay(1), answer += line->read();
            end = answer.find("\r\n\r\n");
            size_t at = answer.find("Content-Length: ");
            if (end != std::string::npos && at != std::string::npos) length = atoi(answer.c_str() + at + 16);
        }
        body = answer.substr(end + 4);
        return atoi(answer.c_str() + strlen("HTTP/1.1 "));
    }
};
