"""Who wins: leaderboard, champion, report, export, verify."""
