// libsystemd, to notify systemd of a service's state (sd_notify).
#pragma once
#include <systemd/sd-daemon.h>
