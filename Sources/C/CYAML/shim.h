// libyaml, for configurations.
#include <yaml.h>
