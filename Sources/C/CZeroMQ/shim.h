// libzmq, and eventfd, with which threads wake each other.
#pragma once
#include <errno.h>
#include <sys/eventfd.h>
#include <zmq.h>
