// What a sketch finds on an ESP32, on Linux: as much of it as the sketches of docs/sensors use.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

class String : public std::string {
  public:
    String(const char *text = "") : std::string(text) {}
    String(const std::string &text) : std::string(text) {}
    explicit String(int number) : std::string(std::to_string(number)) {}
    explicit String(unsigned long number) : std::string(std::to_string(number)) {}
};

using std::isnan;

// A board counts 32 bits.
inline uint32_t millis() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return uint32_t(now.tv_sec * 1000 + now.tv_nsec / 1000000);
}
inline void delay(uint32_t ms) { usleep(ms * 1000); }
inline uint32_t esp_random() {
    uint32_t number;
    return getrandom(&number, sizeof number, 0) == sizeof number ? number : 4;
}
inline long random(long below) { return esp_random() % below; }

struct SerialPort {
    void begin(int) {}
    void println(const String &text) { puts(text.c_str()), fflush(stdout); }
    template <class... Of> void printf(const char *format, Of... values) {
        ::printf(format, values...), fflush(stdout);
    }
};
inline SerialPort Serial;

// There is no sensor: 21.5, 21.6, and so on, which tells records from one another.
inline int analogReadMilliVolts(int) {
    static int millivolts = 2149;
    return ++millivolts;
}

void setup();
void loop();
