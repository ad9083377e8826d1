"""Reports on schedules: what runs beside what, what that won, and what stands behind it; as a page, text or JSON."""
