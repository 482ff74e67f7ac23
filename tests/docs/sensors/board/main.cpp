// The board's own main loop, until it is ended.
#include "Arduino.h"
#include <csignal>

int main() {
    signal(SIGPIPE, SIG_IGN);
    setup();
    for (;;) {
        loop();
        delay(1);
    }
}
