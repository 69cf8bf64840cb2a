"""The worklist in the browser: pages made here, with a little script beside them."""
