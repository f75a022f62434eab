//! A real device, through the CUDA driver.
