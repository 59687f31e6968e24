"""What the admin's machine does."""

import gc

# A thousand hosts are some fifty thousand objects, none of them garbage: to look for it takes as long as a tenth of a
# look at their state. An admin's machine has room for what is found later.
gc.set_threshold(200_000, 20, 20)
